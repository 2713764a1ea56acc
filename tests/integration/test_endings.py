"""Interrupted and extended runs: no incomplete run looks complete, and trackers and files are closed."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import src.evaluate
import src.train
from src import config as configuration
from src.config import ROOT, compose, ended
from src.evaluation import sampling
from src.tracking.base import Tracker
from src.tracking.none import NoTracker
from src.train import train
from src.training.learner import Learner
from src.types import InputError
from src.utils.signals import Stopped, StopRequest
from tests.conftest import SMALL, run_small
from tests.helpers import wandb_files
from tests.integration.test_train import adapter, metrics


class Recorder(Tracker):
    """Tracker that records summaries and exit codes."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.summaries: list[Mapping[str, Any]] = []

    def summarize(self, summary: Mapping[str, Any]) -> None:
        self.summaries.append(summary)

    def close(self, exit_code: int) -> None:
        self.codes.append(exit_code)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    tracker = Recorder()
    monkeypatch.setattr(NoTracker, "open", lambda *arguments: tracker)
    return tracker


def test_a_failure_while_publishing_leaves_an_incomplete_run_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(src.train, "publish", fail)
        with pytest.raises(OSError, match="no space left"):
            run_small(tmp_path / "run")
    run = tmp_path / "run"
    assert not (run / "summary.json").exists()
    assert recorder.codes == [1]
    folder, config = configuration.resume([f"resume={run}"])
    summary = train(config, folder)
    assert summary["complete"] is True
    assert (run / "model" / "adapter_model.safetensors").is_file()
    assert recorder.codes == [1, 0]
    undisturbed = run_small(tmp_path / "undisturbed")
    assert metrics(run) == metrics(undisturbed)
    assert adapter(run) == adapter(undisturbed)


def test_the_summary_is_written_after_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    publish = src.train.publish

    def watched(run: Any, summary: Mapping[str, Any]) -> None:
        there.append((run.directory / "summary.json").exists())
        publish(run, summary)

    monkeypatch.setattr(src.train, "publish", watched)
    run_small(tmp_path / "run")
    assert there == [False]


@pytest.mark.parametrize(("error", "code"), [(ValueError("broken"), 1), (InputError("bad"), 1), (SystemExit(143), 143)])
def test_trackers_and_files_are_closed_on_every_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: Recorder, error: BaseException, code: int
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(Learner, "update", fail)
    with pytest.raises(type(error)):
        run_small(tmp_path / "run")
    assert recorder.codes == [code]
    assert recorder.summaries == []


def test_an_input_error_during_a_run_does_not_print_that_nothing_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any) -> None:
        raise InputError("the data changed")

    monkeypatch.setattr(Learner, "update", fail)
    overrides = [*SMALL, f"hydra.run.dir={tmp_path / 'run'}"]
    assert configuration.launch("train", src.train.job, overrides) == 2
    said = capsys.readouterr().err
    assert "1 problem found:" in said
    assert "the data changed" in said
    assert "nothing was run" not in said
    assert configuration.launch("train", src.train.job, [*overrides, "train.steps=0"]) == 2
    assert "1 problem found, nothing was run:" in capsys.readouterr().err


def test_more_steps_keep_the_schedule_of_the_original_steps(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "train.steps=3", "evaluation.before=false", "optimizer.final=0.5")
    before = [line["lr"] for line in metrics(run)]
    folder, config = configuration.resume([f"resume={run}", "train.steps=6"])
    assert config.settings.optimizer.steps == 3
    configuration.store(folder, config)
    train(config, folder)
    after = [line["lr"] for line in metrics(run)]
    assert after[:3] == before
    assert after[3:] == [0.5 * config.settings.optimizer.lr] * 3, "the rate at the end of the schedule"
    assert compose("train", SMALL).settings.optimizer.steps is None


def test_more_steps_at_a_learning_rate_of_zero_are_refused(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "evaluation.before=false", "optimizer.final=0.0")
    with pytest.raises(InputError, match=r"reached a learning rate of 0 \(optimizer.final=0\)"):
        configuration.resume([f"resume={run}", "train.steps=9"])


def test_a_constant_schedule_simply_continues(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "evaluation.before=false", "optimizer.schedule=constant", "optimizer.warmup=0")
    folder, config = configuration.resume([f"resume={run}", "train.steps=3"])
    assert config.settings.optimizer.steps is None
    train(config, folder)
    assert len({line["lr"] for line in metrics(run)}) == 1


def test_extending_a_complete_run_replaces_its_summary(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "evaluation.before=false")
    assert json.loads((run / "summary.json").read_text())["reported_step"] == 2
    folder, config = configuration.resume([f"resume={run}", "train.steps=3"])
    train(config, folder)
    assert json.loads((run / "summary.json").read_text())["reported_step"] == 3


def test_the_time_limit_stops_with_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["train.steps=3", "evaluation.before=false", "evaluation.every=0", "evaluation.limit=1"]
    undisturbed = run_small(tmp_path / "undisturbed", *settings)
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        run_small(run, *settings, "train.max_time=0.001")
    for attempt in range(1, 41):
        if (run / "summary.json").exists():
            break
        folder, config = configuration.resume([f"resume={run}", f"train.max_time={0.02 * attempt}"])
        with contextlib.suppress(SystemExit):
            train(config, folder)
    assert stop.value.code == 124
    assert "stopped by the time limit; saved a checkpoint of step 0. Resume with:" in capsys.readouterr().out
    assert metrics(run) == metrics(undisturbed)
    assert adapter(run) == adapter(undisturbed)


def test_a_signal_after_the_time_limit_does_not_kill(tmp_path: Path) -> None:
    with StopRequest(minutes=0) as stop:
        time.sleep(0.5)
        with pytest.raises(Stopped, match="stopped by the time limit"):
            stop.check()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            stop.check()
    with StopRequest() as stop:
        stop.check()


# W&B

TRACKED = ["tracking=wandb", "train.steps=2", "evaluation.before=false", "evaluation.every=0", "evaluation.limit=1"]


def fail_at(monkeypatch: pytest.MonkeyPatch, rate: float, error: BaseException) -> None:
    """Make every update at this learning rate fail."""
    update = Learner.update

    def failing(self: Learner, *rows: Any) -> Any:
        if self.optimizer.param_groups[0]["initial_lr"] == rate:
            raise error
        return update(self, *rows)

    monkeypatch.setattr(Learner, "update", failing)


@pytest.mark.parametrize(("error", "code"), [(ValueError("broken"), 1), (Stopped(signal.SIGINT), 130)])
def test_wandb_records_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    fail_at(monkeypatch, 0.0001, error)
    with pytest.raises((ValueError, SystemExit)):
        run_small(tmp_path, *TRACKED)
    assert wandb_files.exit_codes(tmp_path) == [code]


def test_after_a_failed_job_the_next_one_has_its_own_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 0.5, InputError("broken"))
    place = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${hydra.job.num}"]
    sweep = ["-m", *SMALL, *TRACKED, "optimizer.lr=0.5,0.0001", *place]
    assert configuration.launch("train", src.train.job, sweep) == 2
    assert [wandb_files.exit_codes(tmp_path / job) for job in "01"] == [[1], [0]]
    assert [wandb_files.logged_steps(tmp_path / job) for job in "01"] == [[], [1, 2]]


# full disks and Ctrl-C

LIMITED = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("src.train", run_name="__main__", alter_sys=True)
"""


def test_a_disk_that_is_full_at_a_checkpoint_is_a_sentence_and_the_run_resumes(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "train.steps=4", "evaluation.before=false", "evaluation.every=0")
    undisturbed, cut = metrics(run), tmp_path / "cut"
    shutil.copytree(run, cut)
    for gone in ("summary.json", "checkpoints/step_4/manifest.json"):
        (cut / gone).unlink()
    command = [sys.executable, "-c", LIMITED, "100000", f"resume={cut}"]
    full = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    assert "stopped: a file would exceed the limit on its size" in full.stderr or "the disk is full" in full.stderr
    assert "Saved: the checkpoint of step 3." in full.stderr
    assert f"python -m src.train resume={cut}" in full.stderr
    assert not [path for path in (cut / "checkpoints").iterdir() if path.name.startswith(".")]
    folder, config = configuration.resume([f"resume={cut}"])
    train(config, folder)
    assert metrics(cut) == undisturbed
    assert adapter(cut) == adapter(run)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "the disk is full"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_errors_of_writing_are_sentences(
    tmp_path: Path, error: Exception, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert configuration.ended(fail, tmp_path) == 1
    assert f"stopped: {reason}" in capsys.readouterr().err
    with pytest.raises(OSError, match="other"):
        configuration.ended(lambda: (_ for _ in ()).throw(OSError("other")), tmp_path)


@pytest.mark.parametrize("command", ["evaluate", "solve", "export", "report", "train"])
def test_ctrl_c_is_a_sentence(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    needs = {"solve": ["question=x"], "export": ["run=x", "out=y"], "report": ["runs=x", "out=y"]}.get(command, [])
    place = [f"hydra.run.dir={tmp_path}"] if command in ("evaluate", "train") else []
    assert configuration.launch(command, interrupt, [*needs, *place]) == 130
    said = capsys.readouterr().err
    assert "stopped by SIGINT" in said
    assert "Traceback" not in said


def test_an_evaluation_stops_before_its_chunk_ends(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grow, calls = sampling.grow, list[int]()

    def stopping(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        signal.raise_signal(signal.SIGINT)
        rollouts = grow(*arguments, **options)
        calls.append(2)
        return rollouts

    monkeypatch.setattr(sampling, "grow", stopping)
    overrides = [f"run={small_run}", "benchmark.test_size=4", "evaluation.samples=3"]
    with pytest.raises(SystemExit) as stop:
        configuration.launch("evaluate", src.evaluate.job, overrides)
    assert stop.value.code == 130
    assert calls == [1]
    assert "stopped by SIGINT; run the same command again" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_run_without_memory_ends_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fails() -> None:
        raise error

    assert ended(fails, tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith("stopped: memory ran out")
    assert "No checkpoint was saved yet. Free memory, or lower train.micro_batch_tokens" in said
    (tmp_path / "checkpoints" / "step_3").mkdir(parents=True)
    assert ended(fails, tmp_path) == 1
    assert f"step 3. Free memory and continue:\npython -m src.train resume={tmp_path}" in capsys.readouterr().err


def test_other_errors_of_torch_keep_their_traceback(tmp_path: Path) -> None:
    def fails() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        ended(fails, tmp_path)
