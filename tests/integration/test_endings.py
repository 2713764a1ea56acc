"""Interrupted and extended runs: no incomplete run looks complete, and trackers and files are closed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import src.train
from src import config as configuration
from src.config import compose
from src.tracking.base import Tracker
from src.tracking.none import NoTracker
from src.train import train
from src.training.learner import Learner
from src.types import InputError
from tests.conftest import SMALL, run_small
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
