"""Launching a command: validate every job, then run each, and return the documented exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from yaml import MarkedYAMLError

from src.config.composing import CONF, FOLDERS, output_directory, own_choices, register
from src.config.config import Config, compose, from_node
from src.config.directories import refuse_used
from src.config.ending import complain, ended, interrupted
from src.config.job_records import attempted
from src.config.requests import Request, fixed, requested
from src.config.runs import overlay
from src.config.showing import refuse_flags, shows, to_show
from src.config.sweeping import Sweep, refuse_without_objective
from src.config.validating import not_yaml, tried
from src.parallel.settings import launched
from src.types import InputError
from src.utils.run_lock import locked

Task = Callable[[Config[Any], Path], Any]
"""Runs one job. The path is the job's output directory. The result may be a number, the objective of a search."""

WITHOUT_DIRECTORY = ("solve", "export", "report", "plan", "pretrain", "study")
"""Commands without an output directory: they write to ``out=``, or nothing."""


def launch(command: str, task: Task, arguments: Sequence[str] | None = None) -> int:
    """Validate all jobs, then run ``task`` for each. Returns the exit code.

    0: done; 1: a file could not be written; 2: invalid configuration or input; 130: Ctrl-C. Jobs that need an output
    directory run under Hydra, which creates it. In a sweep, a job that fails does not keep the others from running.
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
    given = get_args_parser().parse_args(arguments)
    try:
        refuse_flags(given)
        FOLDERS[1:] = [Path(given.config_dir).resolve()] if given.config_dir else []
        if shows(given):
            return _under_hydra(_Job(command, task), _line(arguments, to_show(command, given)))
        request = requested(command, given.overrides, given.multirun)
        configs = [configured(command, job) for job in request.jobs]
        if request.search:
            refuse_without_objective(command, configs)
    except (InputError, HydraException) as error:
        return complain(error, "nothing was run")
    except MarkedYAMLError as error:  # an option of --config-dir
        return complain(InputError(not_yaml(error)), "nothing was run")
    if command in WITHOUT_DIRECTORY or any(text.startswith("run=") for text in request.overrides):
        codes = (ended(partial(task, config, Path()), Path()) for config in configs)
        return next((code for code in codes if code), 0)
    try:
        if request.sweep:
            job = _Job(command, task, sweep=True, folders=tuple(FOLDERS))
            marked = settings_of_swept_options(command, request.overrides)
            typed = arguments if given.multirun else ["--multirun", *arguments]
            sweep = Sweep(command, arguments, request, configs, marked)
            return sweep.run(lambda further: _under_hydra(job, _line(typed, request, marked, further)))
        directory = output_directory(command, request.overrides, None)
        refuse_used([directory], configs)
        # A run holds its lock before Hydra writes into its directory.
        with locked(directory) if directory is not None else nullcontext():
            return _under_hydra(_Job(command, task), _line(arguments, request))
    except InputError as error:
        return complain(error, "nothing was run")


def _line(
    arguments: Sequence[str], request: Request, marked: Sequence[str] = (), further: Sequence[str] = ()
) -> list[str]:
    """The command line for Hydra: the flags of ``arguments``, with the request's overrides in place of the typed ones.

    The overrides ``marked`` get the "++" that Hydra needs.
    """
    overrides = [f"++{text}" if text in marked else text for text in request.overrides]
    place = arguments.index(request.typed[0]) if request.typed else 0
    before, after = arguments[:place], [text for text in arguments[place:] if text not in request.typed]
    return [*before, *overrides, *request.flags, *further, *after]


def settings_of_swept_options(command: str, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of settings that only the swept options of a group have; Hydra needs a "++" for them.

    Hydra composes a sweep once without its swept overrides, and refuses what is not a setting there. Each job has been
    composed before, so it is known to be one.
    """
    return list(tried(command, fixed(overrides))[2])


def configured(command: str, overrides: Sequence[str]) -> Config[Any]:
    """Compose the configuration of one job; with ``run=``, overlay it on that run's configuration.

    Raises:
        InputError: lists all mistakes.
    """
    named = command in ("evaluate", "solve") and any(
        text.startswith("run=") and text != "run=null" for text in overrides
    )
    return overlay(command, overrides) if named else compose(command, overrides)


@dataclass
class _Job:
    """The function that Hydra calls for each job. A launcher may pickle it and call it in another process.

    Attributes:
        folders: folders with options of config groups.
        code: exit code of the jobs so far that are not part of a sweep; those of a sweep record theirs.
    """

    command: str
    task: Task
    sweep: bool = False
    folders: tuple[Path, ...] = ()
    code: int = 0

    def run(self, node: DictConfig) -> float | None:
        """Run one job. Returns its objective if it is part of a sweep."""
        hydra = HydraConfig.get()
        FOLDERS.extend(folder for folder in self.folders if folder not in FOLDERS)
        directory = Path(hydra.runtime.output_dir)
        typed: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
        overrides = [str(text) for text in typed or []]

        def action() -> Any:
            config = from_node(self.command, node, own_choices(hydra.runtime.choices), overrides)
            return self.task(config, directory)

        if self.sweep:
            return attempted(action, directory, int(hydra.job.num), overrides)
        self.code = ended(action, directory) or self.code
        return None


def _under_hydra(job: _Job, line: Sequence[str]) -> int:
    """Let Hydra run the jobs of a command line. Returns the exit code of jobs that are not part of a sweep."""
    import hydra

    sys.argv[1:] = line
    register()

    def function(node: DictConfig) -> float | None:
        return job.run(node)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=job.command)(function)()
    return job.code


def new_directory() -> Path:
    """Name an output directory for a run that Hydra does not start: ``outputs/<date>/<time with microseconds>``."""
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S.%f")
