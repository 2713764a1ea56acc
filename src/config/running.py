"""Running an entry point under Hydra, and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from src.config.checking import checked
from src.config.composing import CONF, jobs, quote_rounds, register
from src.types import InputError


def launch(name: str, task: Callable[[DictConfig], None], arguments: Sequence[str] | None = None) -> int:
    """Check everything, then run ``task`` under Hydra. Returns the exit code: 0 done, 2 bad configuration or input."""
    import hydra

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parsed = get_args_parser().parse_args(arguments)
    passive = any((parsed.help, parsed.hydra_help, parsed.cfg, parsed.info, parsed.shell_completion))
    own = [f"hydra.searchpath=[file://{Path(parsed.config_dir).resolve()}]"] if parsed.config_dir else []
    try:
        quoted = quote_rounds(parsed.overrides)
        if not passive:
            for job in jobs(quoted) if parsed.multirun else [quoted]:
                checked(name, [*own, *job])
    except (InputError, HydraException) as error:
        return complain(error)
    replaced = dict(zip(parsed.overrides, quoted, strict=True))
    sys.argv[1:] = [replaced.get(argument, argument) for argument in arguments]
    register()
    code = [0]

    def guarded(config: DictConfig) -> None:
        try:
            task(config)
        except InputError as error:
            code[0] = complain(error)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)()
    return code[0]


def complain(error: Exception) -> int:
    """Print what is wrong, one mistake a line; returns exit code 2."""
    problems = error.problems if isinstance(error, InputError) else (str(error),)
    print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found, nothing was run:", file=sys.stderr)
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)
    return 2


def choices() -> dict[str, str]:
    """The option chosen in each group, of the job that runs now."""
    return {
        group: str(choice)
        for group, choice in HydraConfig.get().runtime.choices.items()
        if choice is not None and not group.startswith("hydra")
    }


def run_directory() -> Path:
    """Where the job that runs now writes."""
    return Path(HydraConfig.get().runtime.output_dir)
