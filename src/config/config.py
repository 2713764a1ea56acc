"""``Config`` and ``compose``: the composed and validated configuration of a command."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from omegaconf import DictConfig, OmegaConf

from src.config.validating import examined, explained, validated
from src.settings import Section
from src.types import InputError
from src.utils.files import write_text

Settings = TypeVar("Settings", bound=Section)


@dataclass(frozen=True)
class Config(Generic[Settings]):
    """Validated configuration of a command.

    Attributes:
        settings: typed and validated settings.
        node: the configuration as Hydra composed it, with interpolations unresolved.
        choices: the option chosen in each config group.
        changed: with ``run=``, the settings that differ from that run: (the run's value, the value here) by name.
    """

    command: str
    settings: Settings
    node: DictConfig
    choices: Mapping[str, str]
    overrides: Sequence[str]
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """The configuration as plain values, with interpolations resolved."""
        return typing.cast("dict[str, Any]", OmegaConf.to_container(self.node, resolve=True))

    def write(self, directory: Path) -> None:
        """Write the folder ``.hydra`` as Hydra would, for a run that Hydra did not start."""
        choices = {"hydra": {"runtime": {"choices": dict(self.choices)}}}
        for name, content in (("config", self.node), ("hydra", choices), ("overrides", list(self.overrides))):
            write_text(directory / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(content)))


def compose(command: str, overrides: Sequence[str] = ()) -> Config[Any]:
    """Compose and validate the configuration of ``python -m src.<command> <overrides>``.

    Raises:
        InputError: lists all mistakes: unknown groups, options and keys, wrong types, invalid combinations.
    """
    (node, choices), errors = explained(command, overrides)
    settings, more = examined(command, node)
    if errors or more:
        raise InputError(*dict.fromkeys([*errors, *more]))
    return Config(command, settings, node, choices, list(overrides))


def from_node(command: str, node: DictConfig, choices: Mapping[str, str], overrides: Sequence[str]) -> Config[Any]:
    """Validate the configuration of a job that Hydra composed.

    Raises:
        InputError: lists all mistakes.
    """
    return Config(command, validated(command, node), node, choices, overrides)
