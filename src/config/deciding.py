"""The settings that affect a command's results. Studies share runs in which these settings are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.composing import raw
from src.config.config import compose
from src.config.directories import FREE
from src.config.runs import LATER, flat
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
            settings = ((key, value) for key, value in flat(values) if (key, value) not in LATER.items())
            found.append({key: value for key, value in settings if not key.startswith(FREE)})
    except (HydraException, OmegaConfBaseException) as error:
        compose(command, overrides)  # says all that is wrong
        raise InputError(f"src.{command} {' '.join(overrides)}: {error}") from error
    return found, list(dict.fromkeys(errors))
