"""The settings that affect a command's results. Studies share runs in which these settings are equal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.composing import composed, raw
from src.config.config import compose
from src.config.directories import FREE
from src.config.runs import flat, telling
from src.config.validating import examined
from src.types import InputError


def deciding(command: str, overrides: Sequence[str], seeds: Sequence[int]) -> tuple[list[dict[str, Any]], list[str]]:
    """For each seed, the composed settings (flat, interpolations resolved) without those that change no number, and
    without later ones that have their default; and all mistakes in the settings.

    Raises:
        InputError: the overrides cannot be composed.
    """
    try:
        node = raw(command, overrides)
        errors = examined(command, node)[1]
        found = []
        for seed in seeds:
            node.seed = seed
            values = OmegaConf.to_container(node, resolve=True)
            found.append({key: value for key, value in telling(values).items() if not key.startswith(FREE)})
    except (HydraException, OmegaConfBaseException) as error:
        compose(command, overrides)  # says all that is wrong
        raise InputError(f"src.{command} {' '.join(overrides)}: {error}") from error
    return found, list(dict.fromkeys(errors))


def carried_over(source: str, target: str, chosen: Sequence[str], dropped: tuple[str, ...]) -> list[str]:
    """Overrides of the command ``target`` that set what the options ``chosen`` of the command ``source`` set.

    They are limited to the sections that both commands have, without settings whose names start with one of
    ``dropped``. For example, an option of ``experiment``, a group that only ``src.train`` has, chooses a model.

    Raises:
        InputError: the options cannot be composed.
    """
    try:
        plain, given, there = composed(source), composed(source, chosen), composed(target)
    except (HydraException, OmegaConfBaseException) as error:
        compose(source, chosen)  # says all that is wrong
        raise InputError(f"src.{source} {' '.join(chosen)}: {error}") from error
    options = [
        f"{group}={option}"
        for group, option in given.choices.items()
        if group.partition("/")[0] in there.choices and "@" not in group and plain.choices.get(group) != option
    ]
    before, after = dict(flat(composed(source, options).node)), dict(flat(given.node))
    values = [
        f"++{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in after.items()
        if key.partition(".")[0] in there.node and "." in key and not key.startswith(dropped)
        if before.get(key) != value and value != {}
    ]
    return [*options, *values]
