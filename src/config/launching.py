"""Launching a command: validate every job, then run each, and return the documented exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from src.config.composing import CONF, FOLDERS, jobs, own_choices, quote_rounds, register
from src.config.config import Config, compose, from_node
from src.config.directories import free_directories
from src.config.ending import complain, ended, interrupted
from src.config.runs import overlay
from src.config.validating import tried
from src.parallel.settings import launched
from src.types import InputError
from src.utils.run_lock import locked

Task = Callable[[Config[Any], Path], None]
"""Runs one job. The path is the job's output directory."""

WITHOUT_DIRECTORY = ("solve", "export", "report", "plan", "pretrain", "study")
"""Commands without an output directory: they write to ``out=``, or nothing."""


def launch(command: str, task: Task, arguments: Sequence[str] | None = None) -> int:
    """Validate all jobs, then run ``task`` for each. Returns the exit code.

    0: done; 1: a file could not be written; 2: invalid configuration or input; 130: Ctrl-C. Jobs that need an output
    directory run under Hydra, which creates it.
    """
    try:
        return _launched(command, task, arguments)
    except KeyboardInterrupt:
        return interrupted()


def _launched(command: str, task: Task, arguments: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if (processes := launched()) > 1 and command != "train":
        alone = f"src.{command} runs in one process, but a launcher started {processes}; start it with python -m"
        return complain(InputError(alone), "nothing was run") if os.environ["RANK"] == "0" else 2
    parsed = get_args_parser().parse_args(arguments)
    passive = any((parsed.help, parsed.hydra_help, parsed.cfg, parsed.info, parsed.shell_completion))
    own = []
    if parsed.config_dir:
        FOLDERS.append(Path(parsed.config_dir).resolve())
        own = [f"hydra.searchpath=[file://{FOLDERS[-1]}]"]
    try:
        quoted = quote_rounds(parsed.overrides)
        expanded = jobs(quoted) if parsed.multirun else [quoted]
        configs = [] if passive else [configured(command, [*own, *job]) for job in expanded]
    except (InputError, HydraException) as error:
        return complain(error, "nothing was run")
    direct = command in WITHOUT_DIRECTORY or any(text.startswith("run=") for text in quoted)
    if direct and not passive:
        codes = (ended(partial(task, config, Path()), Path()) for config in configs)
        return next((code for code in codes if code), 0)
    replaced = dict(zip(parsed.overrides, quoted, strict=True))
    if parsed.multirun and not passive:
        replaced |= settings_of_swept_options(command, own, parsed.overrides, quoted)
    if passive:
        return _under_hydra(command, task, arguments, replaced)
    try:
        directory = free_directories(command, [[*own, *job] for job in expanded], configs, parsed.multirun)
        # A run holds its lock before Hydra writes into its directory; the jobs of a sweep may run in other processes.
        with locked(directory) if directory is not None else nullcontext():
            return _under_hydra(command, task, arguments, replaced)
    except InputError as error:
        return complain(error, "nothing was run")


def settings_of_swept_options(
    command: str, own: Sequence[str], typed: Sequence[str], quoted: Sequence[str]
) -> dict[str, str]:
    """Overrides of settings that only the swept options of a group have, each with the "++" that Hydra needs then.

    Hydra composes a sweep once without its swept overrides, and refuses what is not a setting there. Each job has been
    composed before, so it is known to be one.
    """
    fixed = [override for override in quoted if len(jobs([override])) == 1]
    refused = tried(command, [*own, *fixed])[1]
    return {old: f"++{new}" for old, new in zip(typed, quoted, strict=True) if new in refused}


def configured(command: str, overrides: Sequence[str]) -> Config[Any]:
    """Compose the configuration of one job; with ``run=``, overlay it on that run's configuration.

    Raises:
        InputError: lists all mistakes.
    """
    named = command in ("evaluate", "solve") and any(
        text.startswith("run=") and text != "run=null" for text in overrides
    )
    return overlay(command, overrides) if named else compose(command, overrides)


def _under_hydra(command: str, task: Task, arguments: Sequence[str], replaced: dict[str, str]) -> int:
    import hydra

    sys.argv[1:] = [replaced.get(argument, argument) for argument in arguments]
    register()
    code = [0]

    def job(node: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        try:
            choices = own_choices(hydra_config.runtime.choices)
            typed = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
            config = from_node(command, node, choices, [str(text) for text in typed or []])
        except InputError as error:
            code[0] = complain(error)
            return
        directory = Path(hydra_config.runtime.output_dir)
        code[0] = ended(partial(task, config, directory), directory) or code[0]

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)(job)()
    return code[0]


def new_directory() -> Path:
    """Name an output directory for a run that Hydra does not start: ``outputs/<date>/<time with microseconds>``."""
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S.%f")
