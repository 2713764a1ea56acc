"""Run what is missing of a planned study, and report it: ``python -m src.study <name>``. Estimate: ``--estimate``.

``python -m src.study <name> --record <folder>`` copies what the report of the finished jobs reads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src import config as configuration
from src.types import InputError

FLAGS = ("estimate", "report")
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--info", "-i")
"""Flags of Hydra that are followed by a value."""


def study(config: configuration.Config[Any], directory: Path) -> None:
    """Run the jobs of a study that are not done, one after the other, and write its report.

    A job that is done, for this study or another one, is not run again; one that was interrupted is resumed.

    Raises:
        InputError: the plan is invalid, or another process runs this study.
        SystemExit: a signal stopped the study, or a job failed.
    """
    from src.studies.estimating import estimated
    from src.studies.jobs import planned
    from src.studies.registering import registered
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
    if settings.record is not None:
        from src.studies.recording import record

        print(record(name, settings.study, jobs, folder, Path(settings.record)))
        return
    with locked(folder):
        plan = registered(folder, settings.study)
        code = 0 if settings.report else carried_out(settings.study, jobs, folder)
        print(write_report(name, settings.study, plan, jobs, folder))
    if code:
        raise SystemExit(code)


def carried_out(plan: Any, jobs: Sequence[Any], folder: Path) -> int:
    """Run the missing jobs. Returns 1 if some failed, else 0.

    Raises:
        SystemExit: a signal stopped the study.
    """
    from src.studies.running import perform, spent
    from src.utils.signals import Stopped, StopRequest

    failed = []
    with StopRequest() as stop:
        for number, job in enumerate(jobs, 1):
            if job.complete:
                continue
            used = spent(jobs)
            if plan.stopping == "hours" and used >= plan.hours and job.kind == "train":
                say(f"{used:.1f} of {plan.hours:g} hours are used up; no further run starts")
                break
            begun, log = time.monotonic(), folder / "logs" / f"{number:03}_{job.kind}_{job.run}_{job.seed}.txt"
            say(f"[{number}/{len(jobs)}] {job.label}: {job.directory}")
            try:
                code = perform(job, log, stop, say)
            except Stopped as stopped:
                say(f"{stopped}; run the same command again to continue with {job.label}")
                raise SystemExit(stopped.code) from None
            if code or not job.complete:
                failed.append(job)
                say(f"    failed with exit code {code}; see {log}")
            else:
                say(f"    {time.monotonic() - begun:.0f} s")
    if failed:
        say(f"{len(failed)} of {len(jobs)} jobs failed; run the same command again to try them once more")
    return int(bool(failed))


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


def arguments(given: Sequence[str]) -> list[str]:
    """Hydra's arguments for a command line such as ``rounds --estimate root=studies``: flags first, then overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    for before, one in zip(["", *given], given, strict=False):
        if before == "--record":
            overrides.append(f"record={one}")
        elif one == "--record":
            continue
        elif one.startswith("--") and one.removeprefix("--") in FLAGS:
            overrides.append(f"{one.removeprefix('--')}=true")
        elif one.startswith("-") or before in WITH_VALUE:
            flags.append(one)
        elif "=" not in one and not any(done.startswith("study=") for done in overrides):
            overrides.append(f"study={one}")
        else:
            overrides.append(one)
    return [*flags, *overrides]


if __name__ == "__main__":
    sys.exit(configuration.launch("study", study, arguments(sys.argv[1:])))
