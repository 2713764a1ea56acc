"""The hours that the jobs of a study take: measured while they run, and kept in the folder of the study."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.studies.jobs import Job
from src.types import InputError
from src.utils.files import write_json

HOURS = "hours.json"

EVERY = 30.0
"""Seconds between two times that the file is written while jobs run: what a killed study forgets."""


@dataclass
class Hours:
    """Seconds of all jobs that a study has started, by label, those that failed among them.

    Jobs that other studies have done do not count.
    """

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    clock: float = field(default_factory=time.monotonic)
    saved: float = 0.0

    @classmethod
    def opened(cls, folder: Path, jobs: Sequence[Job], before: Collection[str]) -> Hours:
        """The hours of a study that is started.

        A study that was begun by an older version has no file. Then its finished trainings count, with the times of
        their summaries, but not those that were done ``before`` its registration.

        Raises:
            InputError: the file is damaged.
        """
        if (hours := read(folder)) is None:
            own = [job for job in jobs if job.kind == "train" and job.complete and job.label not in before]
            hours = cls(folder, {job.label: _seconds(job.directory) for job in own})
        hours.save()
        return hours

    @property
    def total(self) -> float:
        """Hours of all jobs together."""
        return sum(self.seconds.values()) / 3600

    def count(self, running: Iterable[Job]) -> None:
        """Add the time since the last call to the jobs that were running, and write the file from time to time."""
        now = time.monotonic()
        for job in running:
            self.seconds[job.label] = self.seconds.get(job.label, 0.0) + now - self.clock
        self.clock = now
        if now - self.saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.folder / HOURS, {label: round(seconds, 3) for label, seconds in self.seconds.items()})
        self.saved = time.monotonic()


def read(folder: Path) -> Hours | None:
    """The hours of a study; ``None`` if it was only run by older versions, which did not measure them.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / HOURS
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Hours(folder, {str(label): float(seconds) for label, seconds in found.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: damaged: {error}. Restore it, or remove it to count finished trainings only"
        ) from error


def of_trainings(jobs: Sequence[Job]) -> float:
    """Hours of the finished trainings of a study, as their summaries say, whichever study ran them."""
    folders = {job.directory for job in jobs if job.kind == "train" and job.complete}
    return sum(map(_seconds, folders)) / 3600


def _seconds(folder: Path) -> float:
    return float(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["wall_clock_seconds"])
