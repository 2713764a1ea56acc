"""Running the jobs of a study, one after the other, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from src.config import ROOT
from src.studies.jobs import Job
from src.types import InputError
from src.utils.run_lock import refuse_second_writer
from src.utils.signals import StopRequest

PATIENCE = 600.0
"""Seconds that a job has to save a checkpoint after a stop was requested."""

POLL = 0.5
"""Seconds between two looks at a running job, or at a run that another process writes to."""


def spent(jobs: Sequence[Job]) -> float:
    """Hours of the finished trainings of a study, as their summaries say; evaluations and warm-ups do not count."""
    seconds = 0.0
    for folder in {job.directory for job in jobs if job.kind == "train" and job.complete}:
        seconds += json.loads((folder / "summary.json").read_text(encoding="utf-8"))["wall_clock_seconds"]
    return seconds / 3600


def perform(job: Job, log: Path, stop: StopRequest, say: Callable[[str], None]) -> int:
    """Run a job, which resumes an interrupted one. Returns its exit code; its output goes to ``log``.

    A run that another process writes to, as one that an earlier start of the study left behind, is waited for.

    Raises:
        Stopped: a signal was received; the job has saved a checkpoint.
    """
    wait_for_writer(job, stop, say)
    if job.complete:
        return 0
    log.parent.mkdir(parents=True, exist_ok=True)
    job.done.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"src.{job.kind}", *job.command]
    with log.open("a", encoding="utf-8") as output:
        # A session of its own: Ctrl-C reaches the study alone, which passes one signal on.
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=Path.cwd(), env=environment()
        )
        try:
            while process.poll() is None:
                if stop.requested is not None:
                    process.terminate()
                    process.wait(PATIENCE)
                    raise stop.requested
                time.sleep(POLL)
        finally:
            if process.poll() is None:
                process.kill()
    return process.returncode


def wait_for_writer(job: Job, stop: StopRequest, say: Callable[[str], None]) -> None:
    """Wait until no other process writes to the job's run.

    Raises:
        Stopped: a signal was received.
    """
    said = False
    while True:
        try:
            refuse_second_writer(job.directory)
            return
        except InputError as error:
            if not said:
                say(f"waits: {error}")
                said = True
        if stop.requested is not None:
            raise stop.requested
        time.sleep(POLL)


def environment() -> dict[str, str]:
    """The environment of a job, in which ``src`` can be imported from any directory."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
