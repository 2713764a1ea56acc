"""Run what is missing of a planned study, and report it: ``python -m src.study <name>``. Estimate: ``--estimate``.

``python -m src.study <name> --record <folder>`` copies what the report of the finished jobs reads.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src import config as configuration
from src.types import InputError

FLAGS = ("estimate", "report")
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--info", "-i")
"""Flags of Hydra that are followed by a value."""

SETTINGS = ("study", "root", "at_once", "device")
"""Settings of the command that are written without dashes."""


def study(config: configuration.Config[Any], directory: Path) -> None:
    """Run the jobs of a study that are not done, ``at_once`` at a time, and write its report.

    A job that is done, for this study or another one, is not run again; one that was interrupted is resumed.

    Raises:
        InputError: the plan is invalid, another process runs this study, or one that was never started is reported.
        SystemExit: a signal stopped the study, or a job failed.
    """
    from src.studies.dropping import taken_out
    from src.studies.estimating import estimated
    from src.studies.jobs import planned
    from src.studies.registering import PLAN, current, registered
    from src.studies.reporting import write_report
    from src.utils.run_lock import locked

    settings = config.settings
    if settings.study is None:
        valid = ", ".join(configuration.options("study"))
        raise InputError(f"no study is named; choose one, e.g. python -m src.study carry; valid: {valid}")
    name, root = config.choices["study"], Path(settings.root)
    jobs = planned(settings.study, root)
    if settings.estimate:
        print(estimated(settings.study, jobs, root, settings.device))
        return
    folder = root / name
    only_reports = settings.report or settings.record is not None
    if only_reports and not (folder / PLAN).is_file():
        raise InputError(f"study={name}: it has not been started in root={root}; start it: python -m src.study {name}")
    with locked(folder):
        plan = current(folder, settings.study) if only_reports else registered(folder, settings.study, jobs)
        reported = [*jobs, *taken_out(plan, settings.study, jobs, root)]
        if settings.record is not None:
            from src.studies.recording import record

            print(record(name, settings.study, reported, folder, Path(settings.record)))
            return
        code = 0 if only_reports else carried_out(settings.study, plan, jobs, folder, settings.at_once)
        print(write_report(name, settings.study, plan, reported, folder))
    if code:
        raise SystemExit(code)


def carried_out(asked: Any, plan: Any, jobs: Sequence[Any], folder: Path, at_once: int) -> int:
    """Run the missing jobs of a study as it is ``asked``; ``plan`` is registered. Returns 1 if some failed, else 0.

    Raises:
        InputError: the file with the hours of the study is damaged.
        SystemExit: a signal stopped the study.
    """
    from src.studies.hours import Hours
    from src.studies.running import Queue
    from src.utils.signals import Stopped, StopRequest

    queue = Queue(asked, jobs, folder, at_once, say, Hours.opened(folder, jobs, plan.before))
    try:
        with StopRequest() as stop:
            queue.work(stop)
    except Stopped as stopped:
        left = next((job.label for job in jobs if not job.complete), "its report")
        say(f"{stopped}; run the same command again to continue with {left}")
        raise SystemExit(stopped.code) from None
    if queue.failed:
        say(f"{len(queue.failed)} of {len(jobs)} jobs failed; run the same command again to try them once more")
    return int(bool(queue.failed))


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


def arguments(given: Sequence[str]) -> list[str]:
    """Hydra's arguments for a command line such as ``rounds --estimate root=studies``: flags first, then overrides.

    Raises:
        InputError: ``--record`` names no folder, a setting is written as a flag, or two studies are named.
    """
    flags: list[str] = []
    overrides: list[str] = []
    named: str | None = None
    for before, one, after in zip(["", *given], given, [*given[1:], ""], strict=False):
        if before == "--record":
            overrides.append(f"record={one}")
        elif one == "--record":
            if not after or after.startswith("-"):
                raise InputError("--record names no folder; e.g. --record experiments/carry")
        elif one.startswith("--record="):
            overrides.append(one.removeprefix("--"))
        elif one.startswith("--") and one.removeprefix("--") in FLAGS:
            overrides.append(f"{one.removeprefix('--')}=true")
        elif one.startswith("--") and (setting := _name(one)) in (*SETTINGS, *FLAGS):
            raise InputError(
                f"{one}: write {setting}=<value>, without dashes" + f" (or --{setting})" * (setting in FLAGS)
            )
        elif one.startswith("-") or before in WITH_VALUE:
            flags.append(one)
        elif "=" not in one and not one.startswith("~"):
            if named is not None:
                raise InputError(f"{one}: the study {named} is named already; run one study at a time")
            named = one
            overrides.append(f"study={one}")
        else:
            named = one.removeprefix("study=") if one.startswith("study=") else named
            overrides.append(one)
    return [*flags, *overrides]


def _name(flag: str) -> str:
    """The setting that a flag such as ``--at-once=2`` means."""
    return flag.removeprefix("--").partition("=")[0].replace("-", "_")


def main() -> int:
    """Entry point of the command line. Returns the exit code."""
    try:
        given = arguments(sys.argv[1:])
    except InputError as error:
        return configuration.complain(error, "nothing was run")
    return configuration.launch("study", study, given)


if __name__ == "__main__":
    sys.exit(main())
