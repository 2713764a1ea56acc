"""The order in which the jobs of a study run, side by side or not, without running any."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.config import compose
from src.studies import hours, running
from src.studies.hours import Hours
from src.studies.jobs import Job
from src.types import InputError
from src.utils.signals import Stopped, StopRequest


class Process:
    """A job that takes ``looks`` polls and then has been done."""

    def __init__(self, job: Job, looks: int, running: list[Job]) -> None:
        self.job, self.looks, self.running = job, looks, running
        self.ended: int | None = None
        running.append(job)

    def poll(self) -> int | None:
        self.looks -= 1
        if self.ended is None and self.looks <= 0:
            self.job.done.parent.mkdir(parents=True, exist_ok=True)
            self.job.done.write_text("{}")
            self.ended = 0
            self.running.remove(self.job)
        return self.ended

    def terminate(self) -> None:
        self.ended = -signal.SIGTERM

    def wait(self, seconds: float) -> int | None:
        return self.ended


def jobs_in(root: Path) -> list[Job]:
    """A warm-up, two runs (the second starts from it), two evaluations of the first, one of the second."""

    def train(name: str, *overrides: str) -> Job:
        return Job("train", name, 0, overrides, root / name, root / name / "summary.json")

    def evaluate(name: str, what: str) -> Job:
        return Job("evaluate", name, 0, (f"run={root / name}",), root / name, root / f"{name}_{what}.json", what)

    warm = Job("warmup", "warm", 0, (), root / "warm", root / "warm" / "summary.json")
    second = train("second", f"model.adapter={warm.directory}")
    return [warm, second, train("first"), evaluate("first", "a"), evaluate("first", "b"), evaluate("second", "a")]


def watched(
    jobs: list[Job], folder: Path, at_once: int, monkeypatch: pytest.MonkeyPatch, look: Callable[[Any], None]
) -> running.Queue:
    plan = compose("study", ["study=carry"]).settings.study
    queue = running.Queue(plan, jobs, folder, at_once, lambda text: None, Hours(folder))
    side_by_side: list[Job] = []

    def begin(job: Job, log: Path) -> Process:
        process = Process(job, 2 + len(job.run), side_by_side)
        look(side_by_side)
        return process

    monkeypatch.setattr(running, "begin", begin)
    monkeypatch.setattr(running, "POLL", 0)
    return queue


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_jobs_wait_for_those_that_they_start_from(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, begun, most = jobs_in(tmp_path), [], [0]

    def look(side_by_side: list[Job]) -> None:
        job = side_by_side[-1]
        most[0] = max(most[0], len(side_by_side))
        assert job not in begun
        if job.kind == "evaluate":
            assert (job.directory / "summary.json").exists()
        if job.run == "second":
            assert (tmp_path / "warm" / "summary.json").exists()
        assert len({one.directory for one in side_by_side}) == len(side_by_side)  # two would write to one folder
        begun.append(job)

    queue = watched(jobs, tmp_path, at_once, monkeypatch, look)
    with StopRequest() as stop:
        queue.work(stop)
    assert len(begun) == len(jobs)
    assert queue.failed == []
    assert most[0] == min(at_once, 2)
    if at_once == 1:
        assert begun == jobs


def test_evaluations_of_finished_runs_are_made_when_the_hours_are_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, begun = jobs_in(tmp_path), []
    queue = watched(jobs, tmp_path, 1, monkeypatch, lambda side_by_side: begun.append(side_by_side[-1]))
    queue.plan = queue.plan.replace(hours=1.0, stopping="hours")
    done = property(lambda _: float(sum(job.complete for job in jobs if job.kind == "train")))
    monkeypatch.setattr(Hours, "total", done)
    ordered = [jobs[2], jobs[0], jobs[1], *jobs[3:]]  # the first run, the second one, then all evaluations
    queue.jobs = ordered
    with StopRequest() as stop:
        queue.work(stop)
    assert [(job.kind, job.run) for job in begun] == [
        ("train", "first"),
        ("warmup", "warm"),
        ("evaluate", "first"),
        ("evaluate", "first"),
    ]


def test_a_signal_stops_all_jobs_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_in(tmp_path)

    def look(side_by_side: list[Job]) -> None:
        if len(side_by_side) == 2:
            signal.raise_signal(signal.SIGTERM)

    queue = watched(jobs, tmp_path, 2, monkeypatch, look)
    with StopRequest() as stop, pytest.raises(Stopped, match="SIGTERM"):
        queue.work(stop)
    assert [process.poll() for process, _ in queue.running.values()] == [-signal.SIGTERM] * 2


def test_nothing_starts_from_a_warm_up_that_is_given_up_when_the_hours_are_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    for seed in (0, 1):
        warm, train, base = (tmp_path / f"{name}{seed}" for name in ("warm", "train", "base"))
        start = f"model.adapter={warm}"
        jobs.append(Job("warmup", "warm", seed, (), warm, warm / "summary.json"))
        jobs.append(Job("train", "a", seed, (start,), train, train / "summary.json"))
        jobs.append(Job("evaluate", "base", seed, (start,), base, base / "results.json", "before"))
    begun: list[Job] = []
    queue = watched(jobs, tmp_path, 1, monkeypatch, lambda side_by_side: begun.append(side_by_side[-1]))
    queue.plan = queue.plan.replace(hours=1.0, stopping="hours")
    monkeypatch.setattr(Hours, "total", property(lambda _: float(jobs[0].complete)))
    with StopRequest() as stop:
        queue.work(stop)
    assert begun == [jobs[0], jobs[2]], "the warm-up of seed 0 is done, so its base is evaluated"
    assert queue.failed == []


def test_hours_are_those_of_the_jobs_that_the_study_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, now = jobs_in(tmp_path), [100.0]
    first = jobs[2]
    first.done.parent.mkdir()
    first.done.write_text('{"wall_clock_seconds": 7200}')
    monkeypatch.setattr(hours.time, "monotonic", lambda: now[0])

    def sleeps(seconds: float) -> None:
        now[0] += 60

    monkeypatch.setattr(running.time, "sleep", sleeps)
    folder = tmp_path / "study"
    queue = watched(jobs, folder, 1, monkeypatch, lambda side_by_side: None)
    queue.hours = Hours.opened(folder, jobs, [first.label])  # another study did it
    assert queue.hours.total == 0
    now[0] += 1000  # no job runs
    with StopRequest() as stop:
        queue.work(stop)
    found = hours.read(folder)
    assert found is not None
    assert found.seconds == {job.label: 60.0 * (2 + len(job.run)) for job in (jobs[0], jobs[1], *jobs[3:])}, (
        "a warm-up, a training and three evaluations"
    )
    assert found.total == pytest.approx(sum(found.seconds.values()) / 3600)
    (folder / hours.HOURS).unlink()
    (tmp_path / "second" / "summary.json").write_text('{"wall_clock_seconds": 1800}')
    assert Hours.opened(folder, jobs, [first.label]).total == 0.5, "begun by an older version"
    (folder / hours.HOURS).write_text("[")
    with pytest.raises(InputError, match=r"hours\.json: damaged"):
        hours.read(folder)
