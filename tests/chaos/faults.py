"""The faults, each a function that tries it and returns the outcome."""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.utils import checkpoints
from tests.chaos.table import REFUSED, SURVIVED
from tests.chaos.victims import (
    STEPS,
    Ended,
    at,
    begin,
    differing,
    fork,
    signals,
    start,
    wait,
)


@dataclass
class Place:
    """Where faults are tried: a folder, the results of the undisturbed run, and the seconds of each phase of it.

    ``overrides`` change the recipe of the runs.
    """

    folder: Path
    undisturbed: dict[str, Any]
    seconds: dict[str, list[float]]
    rng: random.Random
    overrides: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        """The run directory of the current try."""
        return self.folder / "run"

    @property
    def log(self) -> Path:
        """The output of the last process."""
        return self.folder / "log"

    def fresh(self) -> None:
        """Remove what the last try left."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def finished(self, run: Path, without: tuple[str, ...] = (), *overrides: str) -> str:
        """Resume a run, and compare its results with those of the undisturbed run."""
        if not (run / "summary.json").exists():
            again = [f"resume={run}", *overrides] if checkpoints.steps(run) else begin(run, *self.overrides, *overrides)
            ended = start(again, self.log)
            if ended.code:
                return f"exit code {ended.code} on resume"
        return compared(run, self, without)

    def moment(self, phase: str, numbers: list[int], pause: float = 0.0) -> Callable[[], None]:
        """The fault that sends signals at a random moment of a random entry into a phase."""
        entries = self.seconds[phase]
        entry = self.rng.randint(1, len(entries))
        return at(phase, entry, signals(numbers, self.rng.uniform(0, entries[entry - 1]), pause))


def compared(run: Path, place: Place, without: tuple[str, ...] = ()) -> str:
    """Whether a finished run has the results of the undisturbed run, bit for bit."""
    names = differing(run, place.undisturbed, without)
    return f"other {', '.join(names)}" if names else SURVIVED


def killed(place: Place, phase: str) -> str:
    """SIGKILL at a random moment of a phase, then resume."""
    for _ in range(20):  # the end of a run may come before the moment
        place.fresh()
        if (
            start(begin(place.run, *place.overrides), place.log, place.moment(phase, [signal.SIGKILL])).code
            == -signal.SIGKILL
        ):
            return place.finished(place.run)
    return "20 runs ended before they were killed"


def killed_repeatedly(place: Place) -> str:
    """SIGKILL in three starts of one run."""
    place.fresh()
    kills = 0
    for _ in range(20):
        phase = place.rng.choice(["rollout", "backward", "checkpoint", "validation"])
        fault = at(phase, place.rng.randint(1, 2), signals([signal.SIGKILL], place.rng.uniform(0, 0.05)))
        again = [f"resume={place.run}"] if checkpoints.steps(place.run) else begin(place.run)
        kills += start(again, place.log, fault).code == -signal.SIGKILL
        if kills == 3 or (place.run / "summary.json").exists():
            break
    return place.finished(place.run)


def signalled(place: Place, numbers: list[int]) -> str:
    """Signals at a random moment of a random phase, then resume."""
    place.fresh()
    phase = place.rng.choice(["rollout", "backward", "optimizer", "checkpoint", "validation", "evaluation"])
    ended = start(begin(place.run), place.log, place.moment(phase, numbers, pause=0.05))
    if ended.code not in (0, 128 + numbers[0], -numbers[0]):
        return f"exit code {ended.code}"
    return place.finished(place.run)


def paused(place: Place) -> str:
    """SIGSTOP, and SIGCONT a second later."""
    place.fresh()
    child = fork(begin(place.run), place.log)
    time.sleep(place.rng.uniform(0.5, 3))
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(child, number)
        time.sleep(1)
    ended = wait(child, place.log)
    return compared(place.run, place) if ended.code == 0 else f"exit code {ended.code}"


def limited_files(place: Place) -> str:
    """A limit on the size of files, as a disk that is full at a random file."""
    place.fresh()
    limit = place.rng.choice([200, 2_000, 20_000, 60_000, 200_000])

    def fault() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    log = place.folder.parent / "full.log"  # the output counts too, if it goes to a file
    ended = start(begin(place.run), log, fault)
    if ended.code and not said(ended) and limit > 2_000:
        return f"limit {limit}: exit code {ended.code} without a sentence: {ended.output[-300:]}"
    return place.finished(place.run)


def said(ended: Ended) -> bool:
    """Whether a run that could not write said so."""
    return ended.code == 1 and "stopped: " in ended.output and "Traceback" not in ended.output


def full_disk(place: Place) -> str:
    """A small file system that becomes full; after room was made, the run resumes."""
    place.fresh()
    disk = place.folder / "disk"
    with mounted(disk, f"size={place.rng.randint(20, 120) * 16}k"):
        ended = start(begin(disk / "run"), place.log)
        if ended.code == 0:
            return compared(disk / "run", place)
        if not said(ended):
            return f"exit code {ended.code} without a sentence"
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        return place.finished(disk / "run")


def read_only(place: Place) -> str:
    """A run directory that cannot be written to is refused; when it can be again, the run resumes."""
    place.fresh()
    disk = place.folder / "disk"
    with mounted(disk, "size=64m"):
        run = disk / "run"
        start(begin(run), place.log, at("rollout", 2, signals([signal.SIGKILL], 0.0)))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        ended = start([f"resume={run}"], place.log)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        if not ended.refused:
            return f"exit code {ended.code}"
        outcome = place.finished(run)
        return REFUSED if outcome == SURVIVED else outcome


class mounted:  # noqa: N801 (used as a function)
    """A file system in memory; needs root."""

    def __init__(self, disk: Path, options: str) -> None:
        self.disk, self.options = disk, options

    def __enter__(self) -> None:
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.disk)], check=True)

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", "-l", str(self.disk)], check=True)


def damaged(place: Place, victim: Path, name: str, how: Callable[[Path], None]) -> str:
    """A file of a killed run is damaged: the run finishes with the same numbers, or refuses with a sentence."""
    place.fresh()
    shutil.copytree(victim, place.run)
    how(place.run / name)
    ended = start([f"resume={place.run}"], place.log)
    if ended.code:
        return REFUSED if ended.refused else f"{name}: exit code {ended.code}"
    outcome = compared(place.run, place, ("rollouts",) if name.startswith("rollouts") else ())
    return outcome if outcome == SURVIVED else f"{name}: {outcome}"


def cut(path: Path) -> None:
    """Cut the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 0x80
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    """Empty a file."""
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {"cut": cut, "one bit": flip, "emptied": empty, "removed": Path.unlink}


def victim(place: Place) -> Path:
    """A run that was killed in its last step."""
    place.fresh()
    start(begin(place.run), place.log, at("rollout", STEPS, signals([signal.SIGKILL], 0.0)))
    kept = place.folder.parent / "victim"
    shutil.rmtree(kept, ignore_errors=True)
    return place.run.rename(kept)


def moved(place: Place, made: Path, copy: bool) -> str:
    """A killed run is moved or copied elsewhere, and resumed there."""
    place.fresh()
    there = place.folder / "else where" / "x"
    shutil.copytree(made, there)
    if not copy:
        there = there.rename(there.with_name("y"))
    return place.finished(there)


def more_threads(place: Place, made: Path) -> str:
    """A killed run is resumed with another number of threads: it finishes, and says that it is not bit-exact."""
    place.fresh()
    shutil.copytree(made, place.run)
    ended = start([f"resume={place.run}", "train.threads=2"], place.log)
    return SURVIVED if ended.code == 0 and "not be bit-exact" in ended.output else f"exit code {ended.code}"


def second_process(place: Place) -> str:
    """A second process on a run is refused; the first one is not disturbed."""
    place.fresh()
    second = place.folder / "second.log"
    child = fork(begin(place.run), place.log)
    while not (place.run / "metrics.jsonl").exists() and time.sleep(0.05) is None:
        if not Path(f"/proc/{child}").exists():
            break
    other = start(place.rng.choice([begin(place.run), [f"resume={place.run}"]]), second)
    ended = wait(child, place.log)
    if other.code != 2 or "is writing to this run" not in other.output:
        return f"the second process ended with {other.code}"
    outcome = compared(place.run, place) if ended.code == 0 else f"exit code {ended.code}"
    return REFUSED if outcome == SURVIVED else outcome


def clock_jumps(place: Place) -> str:
    """The clock of the machine is an hour ahead, then an hour behind, from one look to the next."""
    place.fresh()

    def fault() -> None:
        real, jumps = time.time, itertools.cycle([3600.0, -3600.0])
        time.time = lambda: real() + next(jumps)

    ended = start(begin(place.run, "train.max_time=30"), place.log, fault)
    if ended.code:
        return f"exit code {ended.code}"
    seconds = json.loads((place.run / "summary.json").read_text())["wall_clock_seconds"]
    if not 0 < seconds < 600:
        return f"a run of {seconds} s"
    return compared(place.run, place, ("configuration",))  # train.max_time differs
