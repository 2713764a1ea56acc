"""Running the jobs of a study, each in a process of its own, and several at once if the user says so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from src.config import ROOT
from src.studies.hours import Hours
from src.studies.jobs import Job
from src.studies.settings import Study
from src.types import InputError
from src.utils.run_lock import refuse_second_writer
from src.utils.signals import StopRequest

PATIENCE = 600.0
"""Seconds that a job has to save a checkpoint after a stop was requested."""

POLL = 0.5
"""Seconds between two looks at the running jobs, or at a run that another process writes to."""


class Running(NamedTuple):
    """The process of a job, and the time at which it began."""

    process: subprocess.Popen[bytes]
    begun: float


@dataclass
class Queue:
    """The jobs of a study that are not done, by their number in the plan: those that wait, and those that run."""

    plan: Study
    jobs: Sequence[Job]
    folder: Path
    at_once: int
    say: Callable[[str], None]
    hours: Hours
    waiting: dict[int, Job] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    failed: list[Job] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def work(self, stop: StopRequest) -> None:
        """Run all jobs, which resumes interrupted ones.

        Raises:
            Stopped: a signal was received; the running jobs have saved their checkpoints.
        """
        self.waiting = {number: job for number, job in enumerate(self.jobs, 1) if not job.complete}
        try:
            while True:
                self._count()
                self._end_finished()
                stop.check()
                self._start_ready()
                if not self.running and not self.waiting:
                    return
                time.sleep(POLL)
        finally:
            self._end_all()

    def _end_finished(self) -> None:
        for number, (process, begun) in list(self.running.items()):
            if (code := process.poll()) is None:
                continue
            del self.running[number]
            job = self.jobs[number - 1]
            if code or not job.complete:
                self.failed.append(job)
                self.say(f"{self._place(number)} failed with exit code {code}; see {self._log(number)}")
            else:
                self.say(f"{self._place(number)} done in {time.monotonic() - begun:.0f} s")

    def _start_ready(self) -> None:
        for number, job in list(self.waiting.items()):
            if len(self.running) == self.at_once:
                return
            if self._blocked(number, job):
                continue
            if lost := next((one for one in self.failed if one.kind != "evaluate" and _starts_from(job, one)), None):
                self.say(f"{self._place(number)} {job.label} is given up, since this failed: {lost.label}")
                self.failed.append(job)
                del self.waiting[number]
                continue
            if not job.complete:  # another process may have done it
                used = self.hours.total
                hours = self.plan.hours if self.plan.stopping == "hours" else None
                if hours is not None and used >= hours and job.kind == "train":
                    self.say(f"{used:.1f} of {hours:g} hours are used up; no further run starts")
                    self._start_no_further_run()
                    return
                self.say(f"{self._place(number)} {job.label}: {job.directory}")
                begun = time.monotonic()
                self.running[number] = Running(begin(job, self._log(number)), begun)
            del self.waiting[number]

    def _start_no_further_run(self) -> None:
        """Give up the waiting trainings and warm-ups, and what starts from them; other evaluations are still made."""
        given_up = [job for job in self.waiting.values() if job.kind != "evaluate"]
        self.waiting = {
            number: job
            for number, job in self.waiting.items()
            if job.kind == "evaluate" and not any(_starts_from(job, one) for one in given_up)
        }

    def _count(self) -> None:
        """Add the time since the last call to the jobs that run."""
        self.hours.count([self.jobs[number - 1] for number in self.running])

    def _blocked(self, number: int, job: Job) -> bool:
        """Whether a job has to wait: for one that it starts from, or for another process that writes to its run."""
        others = [self.jobs[one - 1] for one in (*self.running, *self.waiting) if one < number or one in self.running]
        if any(_starts_from(job, other) for other in others):
            return True
        try:
            refuse_second_writer(job.directory)
        except InputError as error:
            if str(job.directory) not in self.told:
                self.say(f"waits: {error}")
            self.told.add(str(job.directory))
            return True
        return False

    def _end_all(self) -> None:
        """Stop the running jobs: all are asked to save a checkpoint, and killed if they take too long."""
        for process, _ in self.running.values():
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process, _ in self.running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        self._count()
        self.hours.save()

    def _place(self, number: int) -> str:
        return f"[{number}/{len(self.jobs)}]"

    def _log(self, number: int) -> Path:
        job = self.jobs[number - 1]
        return self.folder / "logs" / f"{number:03}_{job.kind}_{job.run}_{job.seed}.txt"


def _starts_from(job: Job, other: Job) -> bool:
    """Whether a job needs the directory that another one writes: that of its own run, or of its warm-up."""
    warm = other.kind == "warmup" and any(str(other.directory) in text for text in job.overrides)
    return warm or other.directory == job.directory


def begin(job: Job, log: Path) -> subprocess.Popen[bytes]:
    """Start a job in a process of its own; its output goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    job.done.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"src.{job.kind}", *job.command]
    with log.open("a", encoding="utf-8") as output:
        # A session of its own: Ctrl-C reaches the study alone, which passes one signal on.
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=Path.cwd(), env=environment()
        )


def environment() -> dict[str, str]:
    """The environment of a job, in which ``src`` can be imported from any directory."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
