"""Output directories that are already in use: refused before Hydra writes a job's configuration into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config.config import Config
from src.config.reading import DamagedError, values_of
from src.config.runs import RESUMABLE, SERVERS, flat
from src.types import InputError
from src.utils import checkpoints
from src.utils.run_lock import refuse_second_writer

CHANGEABLE = ("tracking", "train.max_time", SERVERS)
"""Settings that do not change a run's numbers. They may be others when it goes on, and do not name directories."""

FREE = (*CHANGEABLE, "_target_")
"""What may differ when a command is started again in its directory."""

RESUMED = (*FREE, *RESUMABLE, "optimizer.steps")
"""Settings that may differ when a run is resumed."""

SHOWN = 8
"""Number of differing settings that an error message names; further ones are only counted."""


def refuse_used(directories: Sequence[Path | None], configs: Sequence[Config[Any]]) -> None:
    """Check that the output directory of every job is new, or holds a run of the same settings that nobody writes to.

    A directory whose name holds the time (``None``) is always new.

    Raises:
        InputError: lists the directories that hold another run, with the settings that differ.
    """
    problems: list[str] = []
    for directory, config in zip(directories, configs, strict=True):
        if directory is None:
            continue
        try:
            refuse_second_writer(directory)
            refuse_other_run(directory, config.node, FREE)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)


def _cut(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether the settings ``there`` are the beginning of those ``here``; the last value may be cut."""
    return len(there) < len(here) and all(there[key] == here.get(key) for key in list(there)[:-1])


def refuse_other_run(directory: Path, node: DictConfig, free: tuple[str, ...] = RESUMED) -> None:
    """Check that a directory holds no run, or one with the settings of the composed configuration ``node``.

    Settings whose names start with one of ``free`` may differ. A configuration that was cut before the first checkpoint
    does not matter.

    Raises:
        InputError: names the settings that differ.
    """
    if not (directory / ".hydra" / "config.yaml").exists():
        return
    try:
        there, here = dict(flat(values_of(directory))), dict(flat(node))
    except DamagedError:
        if checkpoints.steps(directory):
            raise
        return  # killed while it was written: nothing was trained, so the run starts again
    if not checkpoints.steps(directory) and _cut(there, here):
        return
    differing = [
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key) and not key.startswith(free)
    ]
    if differing:
        more = [f"and {len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
        raise InputError(
            f"{directory}: holds a run with other settings: {'; '.join([*differing[:SHOWN], *more])}. "
            f"Name another directory, or continue that run with resume={directory}"
        )
