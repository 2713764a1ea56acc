"""Whatever a numeric setting is set to, the configuration is valid, or the mistakes name the setting."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from src.config import compose
from src.config.runs import flat
from src.config.validating import examined
from src.settings import Section

COMMANDS = {
    "train": ("train", ["rounds=2"]),
    "a search": (
        "train",
        ["rounds=3", "rounds/search=value", "rounds.probes=1", "reward=efficiency", "algorithm=gspo"],
    ),
    "an aggregation": ("train", ["experiment=spiral"]),
    "parts": ("train", ["experiment=pdr", "optimizer=adamw-8bit", "tracking=wandb"]),
    "servers": ("train", ["engine=vllm-server", "rounds=2", "rounds/carry=tail", "rounds/tool=calculator"]),
    "evaluate": ("evaluate", []),
    "warmup": ("warmup", ["model=tiny"]),
    "pretrain": ("pretrain", []),
}

PHASES = [phase for phase in Phase if phase != Phase.shrink]
"""Without shrinking: the first value that fails says enough."""

NUMBERS = (
    st.integers()
    | st.integers(-3, 20)
    | st.integers().map(lambda power: 10 ** (abs(power) % 40))
    | st.floats()
    | st.floats(-2, 2)
    | st.sampled_from([None, True, "", "many", [], [1], {}])
)


def numeric(section: Section, place: str = "") -> Iterator[str]:
    """The dotted names of all numeric settings of a section."""
    for name, field in type(section).model_fields.items():
        value, where = getattr(section, name), f"{place}.{name}" if place else name
        if isinstance(value, Section):
            yield from numeric(value, where)
        elif isinstance(value, Mapping):
            for key, part in value.items():
                yield from numeric(part, f"{where}.{key}") if isinstance(part, Section) else ()
        elif {int, float} & {field.annotation, *typing.get_args(field.annotation)}:
            yield where


def named(node: DictConfig, place: str) -> list[str]:
    """A setting, those that refer to it, where its value arrives, and the one that it refers to by default."""
    values = dict(flat(OmegaConf.to_container(node, resolve=False)))
    names = [place, *re.findall(r"^\$\{([\w.]+)\}$", str(values.get(place)))]
    names += [re.sub(r"^rounds\.parts\.\w+\.strategy", "rounds", place)]  # rules of a strategy know nothing of parts
    for name in names:
        names += [other for other, value in values.items() if f"${{{name}}}" in str(value) and other not in names]
    return names


@cache
def composed(name: str) -> tuple[str, DictConfig, list[str]]:
    command, overrides = COMMANDS[name]
    config = compose(command, overrides)
    return command, config.node, list(numeric(config.settings))


@pytest.mark.parametrize("name", COMMANDS)
@settings(max_examples=25, deadline=None, phases=PHASES)
@given(data=st.data(), value=NUMBERS)
def test_any_number_is_valid_or_refused_by_name(name: str, data: st.DataObject, value: Any) -> None:
    command, node, places = composed(name)
    place = data.draw(st.sampled_from(places))
    changed = deepcopy(node)
    OmegaConf.update(changed, place, value, merge=False, force_add=True)
    _, mistakes = examined(command, changed)
    assert not mistakes or any(name in mistake for name in named(node, place) for mistake in mistakes), mistakes
