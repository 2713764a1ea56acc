"""W&B: environment variables, steps, and what happens where it cannot be reached."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.config import compose
from src.tracking.wandb import Wandb, WandbTracker
from src.types import InputError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings or login of the machine."""
    for name in ("MODE", "PROJECT", "DISABLED", "API_KEY", "BASE_URL", "TAGS", "DIR", "NAME", "RUN_GROUP", "JOB_TYPE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def tracking(*overrides: str) -> Any:
    return compose("train", ["tracking=wandb", *overrides]).settings.tracking


def project_of(settings: Wandb, folder: Path) -> tuple[str, str]:
    """The mode of a tracker and the project of the W&B run that it opens."""
    with settings.open(folder, {}, {}, None) as tracker:
        assert isinstance(tracker, WandbTracker)
        return settings.used_mode, str(tracker._run.project)


def test_variables_count_where_a_setting_is_not_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert project_of(tracking(), tmp_path) == ("offline", "motif")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert project_of(tracking(), tmp_path) == ("offline", "mine")
    assert project_of(tracking("tracking.project=other"), tmp_path) == ("offline", "other")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking().used_mode == "disabled"
    assert tracking("tracking.mode=offline").used_mode == "offline"
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(InputError, match="WANDB_MODE=sometimes: valid: offline, online, disabled"):
        tracking()


def test_names_groups_and_tags_come_from_settings_then_variables_then_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = tmp_path / "2026-11-26" / "sweep" / "1_seed-1"
    job.mkdir(parents=True)
    config = {"seed": 1, "choices": {"rounds": "3", "reward": "tree"}}
    alone = Wandb().described_run(job, config)
    assert (alone["group"], alone["name"]) == (None, "rounds-3_reward-tree_seed-1")
    (job.parent / "sweep.json").write_text("{}")
    found = Wandb().described_run(job, config)
    assert (found["group"], found["job_type"]) == ("2026-11-26/sweep", "train")
    assert (found["name"], found["tags"], found["dir"]) == ("1_seed-1", None, str(job))
    for name, value in {"RUN_GROUP": "g", "JOB_TYPE": "j", "NAME": "n", "TAGS": "a,b", "DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    found = Wandb().described_run(job, config)
    assert [found[key] for key in ("group", "job_type", "name", "tags", "dir")] == [
        "g",
        "j",
        "n",
        ["a", "b"],
        str(tmp_path),
    ]
    given = Wandb(group="mine", job_type="study", name="x", tags=["t"]).described_run(job, config)
    assert [given[key] for key in ("group", "job_type", "name", "tags")] == ["mine", "study", "x", ["t"]]


def test_failures_of_wandb_are_said_once_and_stop_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Wandb().open(tmp_path, {}, {}, None) as tracker:
        assert isinstance(tracker, WandbTracker)

        def broken(*arguments: Any, **options: Any) -> None:
            raise BrokenPipeError("the service has ended")

        run, tracker._run = tracker._run, SimpleNamespace(log=broken, finish=broken)
        tracker.log({"step": 1, "loss": 1.0})
        tracker.log({"step": 2, "loss": 1.0})
        tracker._run = run
    assert caplog.text.count("the run goes on") == 1


@pytest.mark.parametrize("variable", ["WANDB_DISABLED=true", "WANDB_MODE=disabled"])
def test_a_disabled_tracker_writes_nothing(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*variable.split("="))
    run = tmp_path / "run"
    run.mkdir()
    with tracking().open(run, {}, {}, None) as tracker:
        tracker.log({"step": 1, "loss": 1.0})
    assert list(run.iterdir()) == []


def test_a_resumed_run_goes_on_counting_its_own_steps(tmp_path: Path) -> None:
    with Wandb().open(tmp_path, {}, {}, "abcd1234") as tracker:
        assert isinstance(tracker, WandbTracker)
        tracker.log({"step": 11, "loss": 1.0})
        assert tracker._run.step in (11, 12)
        tracker.rollouts(11, [])
        tracker.log({"step": 12, "loss": 1.0})
        assert tracker._run.step in (12, 13)


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes in which W&B was started; it cannot be reached."""
    import wandb

    modes: list[str] = []

    def init(mode: str, **options: Any) -> Any:
        modes.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("Run initialization has timed out after 10.0 sec.")
        return SimpleNamespace(define_metric=lambda *names, **others: None, id="x", finish=lambda exit_code: None)

    monkeypatch.setattr(wandb, "init", init)
    return modes


def test_online_without_a_key_is_recorded_offline_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, modes: list[str]
) -> None:
    with tracking("tracking.mode=online").open(tmp_path, {}, {}, None):
        pass
    assert modes == ["offline"]
    assert [record.message for record in caplog.records] == [
        "tracking.mode=online needs an API key: run `wandb login`, or set WANDB_API_KEY; this run is recorded offline: "
        "upload it with `wandb sync`"
    ]
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password " + "k" * 40 + "\n")
    (tmp_path / ".netrc").chmod(0o600)
    with tracking("tracking.mode=online").open(tmp_path, {}, {}, None):
        pass
    assert modes == ["offline", "online", "offline"]


def test_without_a_connection_the_run_is_recorded_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, modes: list[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with Wandb(mode="online").open(tmp_path, {}, {}, None):
        pass
    assert modes == ["online", "offline"]
    assert caplog.text.count("recorded offline") == 1
    assert "W&B cannot be reached (Run initialization has timed out" in caplog.text


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A W&B run that goes on online. Its calls wait until ``answers`` is set; ``logged`` holds the steps."""
    import wandb

    run = SimpleNamespace(answers=threading.Event(), logged=[], id="x", define_metric=lambda *names, **others: None)
    run.finish = lambda exit_code: run.answers.wait()
    run.log = lambda values, step: run.answers.wait() and run.logged.append(step)
    monkeypatch.setattr(wandb, "init", lambda **options: run)
    monkeypatch.setattr(WandbTracker, "_end_service", lambda self, code: setattr(run, "ended", code))
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    return run


def test_online_a_server_that_does_not_answer_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, online: SimpleNamespace
) -> None:
    monkeypatch.setattr("src.tracking.wandb.CLOSE_SECONDS", 0.1)
    begin = time.perf_counter()
    with Wandb(mode="online").open(tmp_path, {}, {}, None) as tracker:
        for step in range(1, 5):
            tracker.rollouts(step, [])
            tracker.log({"step": step, "loss": 1.0})
    assert time.perf_counter() - begin < 2
    (record,) = caplog.records
    assert record.message.startswith("W&B failed (its server did not take everything within 0.1 s); the run goes on")
    assert online.ended == 0
    online.answers.set()


def test_online_everything_is_recorded_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, online: SimpleNamespace
) -> None:
    with Wandb(mode="online").open(tmp_path, {}, {}, None) as tracker:
        for step in range(1, 5):
            tracker.rollouts(step, [])
            tracker.log({"step": step, "loss": 1.0})
        online.answers.set()
    assert online.logged == [1, 1, 2, 2, 3, 3, 4, 4]
    assert not caplog.records
    assert not hasattr(online, "ended")


def test_too_many_waiting_records_are_dropped_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, online: SimpleNamespace
) -> None:
    monkeypatch.setattr("src.tracking.wandb.CLOSE_SECONDS", 0.1)
    monkeypatch.setattr("src.tracking.background.WAITING", 2)
    with Wandb(mode="online").open(tmp_path, {}, {}, None) as tracker:
        for step in range(1, 9):
            tracker.log({"step": step, "loss": 1.0})
    assert caplog.text.count("W&B failed (too many records wait for its server)") == 1
    assert len(caplog.records) == 1
    online.answers.set()


def test_a_host_that_cannot_be_reached_costs_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    begin = time.perf_counter()
    with Wandb(mode="online").open(tmp_path, {}, {}, None):
        pass
    assert time.perf_counter() - begin < 25
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_errors_in_threads_of_wandb_that_outlive_its_process_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    tracker: Any = object.__new__(WandbTracker)
    tracker._wandb = SimpleNamespace()  # its process has ended already
    tracker._end_service(0)
    hook = threading.excepthook
    tracker._end_service(0)  # the next run of a sweep
    assert threading.excepthook is hook

    class JoinedError(Exception):
        __module__ = "wandb.sdk.lib.asyncio_manager"

    for error in (JoinedError, ValueError):

        def fail(error: type[Exception] = error) -> None:
            raise error

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert [one.exc_type for one in printed] == [ValueError]
