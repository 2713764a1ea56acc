"""Reading the folder ``.hydra`` of a recorded run: its configuration, choices and overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.composing import own_choices
from src.config.migrating import migrated
from src.config.trusting import trusted
from src.types import InputError


class DamagedError(InputError):
    """A file of a recorded run cannot be read as what it should be."""


def load(run: Path, replaced: Sequence[str] = ()) -> DictConfig:
    """Load the configuration of a recorded run, migrated to current names, without the settings in ``replaced``.

    Raises:
        InputError: the folder is not a run directory, or its configuration is damaged or names code that the user did
            not.
    """
    values = values_of(run)
    for name in replaced:
        section, _, key = name.partition(".")
        if isinstance(values.get(section), dict):
            values[section].pop(key, None)
    trusted(values, str(run / ".hydra" / "config.yaml"))
    return OmegaConf.create(values)


def values_of(run: Path) -> dict[str, Any]:
    """The recorded settings as plain data with interpolations as text, to be compared; nothing may be built from them.

    Raises:
        InputError: the folder is not a run directory, or its configuration is damaged.
    """
    file = run / ".hydra" / "config.yaml"
    if not file.is_file():
        raise InputError(
            f"{run}: not a run directory (it has no .hydra/config.yaml). Name one that src.train wrote, "
            "e.g. outputs/<date>/<time>"
        )
    values = _plain(file)
    if not isinstance(values, dict) or not values:
        raise DamagedError(f"{file}: damaged: it holds no settings")
    return dict(migrated(values))


def load_choices(run: Path) -> dict[str, str]:
    """Load the option chosen in each group of a recorded run."""
    values = _plain(run / ".hydra" / "hydra.yaml")
    try:
        choices = values["hydra"]["runtime"]["choices"] if values else {}
    except (KeyError, TypeError) as error:
        raise DamagedError(f"{run / '.hydra' / 'hydra.yaml'}: damaged: it lacks hydra.runtime.choices") from error
    return own_choices({str(group): choice for group, choice in choices.items()})


def load_overrides(run: Path) -> list[str]:
    """Load the overrides of a recorded run's command line, as they were typed."""
    return [str(text) for text in _plain(run / ".hydra" / "overrides.yaml") or []]


def _plain(file: Path) -> Any:
    """Read a YAML file with its interpolations as text; ``None`` if there is no such file."""
    if not file.is_file():
        return None
    try:
        return OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{file}: damaged: {' '.join(str(error).split())}") from error
