"""Directories that hold a run: a second process and other settings are refused before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import src.evaluate
import src.train
from src import config as configuration
from src.config import compose
from src.config.directories import refuse_other_run
from src.train import main, train
from src.types import InputError
from tests.conftest import SMALL, run_small
from tests.unit.utils.test_run_lock import other_process

QUICK = [*SMALL, "train.steps=1", "evaluation.before=false", "evaluation.every=0", "evaluation.limit=1"]


@pytest.fixture
def run(tmp_path: Path, made: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small(tmp_path_factory.mktemp("runs") / "made", *QUICK)


def content(run: Path) -> dict[str, bytes]:
    """Every file of a run, except the lock."""
    return {
        str(file.relative_to(run)): file.read_bytes()
        for file in run.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


def launch(*overrides: str, command: str = "train") -> int:
    task = {"train": src.train.job, "evaluate": src.evaluate.job}[command]
    return configuration.launch(command, task, list(overrides))


def test_other_settings_are_refused_before_anything_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run)
    assert launch(*QUICK, f"hydra.run.dir={run}", "optimizer.lr=0.5", "rounds=2") == 2
    said = capsys.readouterr().err
    assert "1 problem found, nothing was run" in said
    assert f"{run}: holds a run with other settings: optimizer.lr is 0.0001 there and 0.5 here; rounds.n is 3" in said
    assert f"resume={run}" in said
    assert content(run) == before


def test_the_same_settings_are_skipped(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (run / "metrics.jsonl").read_bytes(), (run / "summary.json").read_bytes()
    assert launch(*QUICK, f"hydra.run.dir={run}") == 0
    assert f"{run}: already complete, skipped" in capfd.readouterr().out
    assert before == ((run / "metrics.jsonl").read_bytes(), (run / "summary.json").read_bytes())


def test_another_command_in_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run)
    assert launch(f"hydra.run.dir={run}", "evaluation.limit=1", command="evaluate") == 2
    assert "holds a run with other settings" in capsys.readouterr().err
    assert content(run) == before


def test_a_sweep_into_directories_of_other_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["-m", *QUICK, f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${hydra.job.num}"]
    for number in range(2):
        compose("train", [*QUICK, f"seed={number}"]).write(tmp_path / str(number))
        (tmp_path / str(number) / "summary.json").write_text("{}")
    before = content(tmp_path)
    assert launch(*sweep, "seed=0,5") == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / '1'}: holds a run with other settings: seed is 1 there and 5 here" in said
    assert f"{tmp_path / '0'}:" not in said
    assert content(tmp_path) == before
    assert launch(*sweep, "seed=0,1") == 0


def test_in_a_notebook_other_settings_are_refused_too(run: Path) -> None:
    before = content(run)
    with pytest.raises(InputError, match="holds a run with other settings: seed is 0 there and 1 here"):
        train(compose("train", [*QUICK, "seed=1"]), run)
    assert content(run) == before


def test_a_configuration_that_was_cut_before_training_is_written_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text()[:100])
    assert launch(*QUICK, f"hydra.run.dir={run}") == 2
    assert f"{config}: damaged" in capsys.readouterr().err
    new = tmp_path / "new"
    (new / ".hydra").mkdir(parents=True)
    shutil.copy(config, new / ".hydra" / "config.yaml")
    assert launch(*QUICK, f"hydra.run.dir={new}") == 0
    assert configuration.load(new) == compose("train", QUICK).node


@pytest.mark.parametrize("lines", [0, 1, 30])
def test_a_configuration_that_was_cut_between_lines_is_written_again(run: Path, tmp_path: Path, lines: int) -> None:
    """It is valid YAML, but not whole."""
    new = tmp_path / "new"
    (new / ".hydra").mkdir(parents=True)
    whole = (run / ".hydra" / "config.yaml").read_text().splitlines(keepends=True)
    (new / ".hydra" / "config.yaml").write_text("".join(whole[:lines]))
    node = compose("train", QUICK).node
    refuse_other_run(new, node)
    if lines == 30:  # the seed is in the second line
        with pytest.raises(InputError, match="other settings"):
            refuse_other_run(new, compose("train", [*QUICK, "seed=7"]).node)
    (new / "checkpoints" / "step_1").mkdir(parents=True)
    with pytest.raises(InputError, match=r"other settings|it holds no settings"):
        refuse_other_run(new, node)


@pytest.mark.parametrize("how", ["run again", "resume", "sweep"])
def test_a_second_process_is_refused_before_it_writes(
    run: Path, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "summary.json").unlink()
    before = content(run)
    with other_process(run) as process:
        if how == "resume":
            monkeypatch.setattr("sys.argv", ["src.train", f"resume={run}"])
            assert main() == 2
        elif how == "sweep":
            place = [f"hydra.sweep.dir={run.parent}", f"hydra.sweep.subdir={run.name}"]
            assert launch("-m", *QUICK, *place, "seed=0") == 2
        else:
            assert launch(*QUICK, f"hydra.run.dir={run}") == 2
        assert f"process {process.pid} on " in capsys.readouterr().err
        assert content(run) == before
    assert json.loads((run / ".lock").read_text())["pid"] == process.pid


def test_settings_of_swept_options_can_be_given_and_the_sweep_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    swept = [*QUICK, "rounds/search=vote,value", "rounds.search.candidates=2", "rounds.probes=1"]
    command = ["-m", *swept, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    monkeypatch.setattr("sys.argv", ["src.train", *command])
    assert main() == 0
    folders = sorted(file.parent.name for file in (tmp_path / "sweep").glob("*/summary.json"))
    assert len(folders) == 2
    assert not any("++" in name for name in folders)
    capfd.readouterr()
    monkeypatch.setattr("sys.argv", ["src.train", *command])
    assert main() == 0
    assert capfd.readouterr().out.count("already complete, skipped") == 2
