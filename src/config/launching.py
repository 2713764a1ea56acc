"""Launching a command: validate every job, then run each, and return the documented exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from src.config.composing import CONF, jobs, own_choices, quote_rounds, register
from src.config.config import Config, compose, from_node
from src.config.runs import overlay
from src.parallel.settings import launched
from src.types import InputError

Task = Callable[[Config[Any], Path], None]
"""Runs one job. The path is the job's output directory."""

WITHOUT_DIRECTORY = ("solve", "export", "report", "pretrain")
"""Commands without an output directory: they write to ``out=``, or nothing."""


def launch(command: str, task: Task, arguments: Sequence[str] | None = None) -> int:
    """Validate all jobs, then run ``task`` for each. Returns the exit code: 0 done, 2 invalid configuration or input.

    Jobs that need an output directory run under Hydra, which creates it.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if (processes := launched()) > 1 and command != "train":
        alone = f"src.{command} runs in one process, but a launcher started {processes}; start it with python -m"
        return complain(InputError(alone), "nothing was run") if os.environ["RANK"] == "0" else 2
    parsed = get_args_parser().parse_args(arguments)
    passive = any((parsed.help, parsed.hydra_help, parsed.cfg, parsed.info, parsed.shell_completion))
    own = [f"hydra.searchpath=[file://{Path(parsed.config_dir).resolve()}]"] if parsed.config_dir else []
    try:
        quoted = quote_rounds(parsed.overrides)
        expanded = jobs(quoted) if parsed.multirun else [quoted]
        configs = [] if passive else [configured(command, [*own, *job]) for job in expanded]
    except (InputError, HydraException) as error:
        return complain(error, "nothing was run")
    direct = command in WITHOUT_DIRECTORY or any(text.startswith("run=") for text in quoted)
    if direct and not passive:
        try:
            for config in configs:
                task(config, Path())
        except InputError as error:
            return complain(error)
        return 0
    return _under_hydra(command, task, arguments, dict(zip(parsed.overrides, quoted, strict=True)))


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
            config = from_node(command, node, choices, list(hydra_config.overrides.task))
            task(config, Path(hydra_config.runtime.output_dir))
        except InputError as error:
            code[0] = complain(error)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)(job)()
    return code[0]


def complain(error: Exception, outcome: str = "") -> int:
    """Print an error's messages, one per line, below their count and ``outcome``. Returns exit code 2."""
    problems = error.problems if isinstance(error, InputError) else (str(error),)
    counted = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found"
    print(f"{counted}{', ' if outcome else ''}{outcome}:", file=sys.stderr)
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)
    return 2


def new_directory() -> Path:
    """Name an output directory for a run that Hydra does not start: ``outputs/<date>/<time with microseconds>``."""
    return Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S.%f")
