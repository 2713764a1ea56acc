"""Sweeps: complete jobs are skipped, partial ones go on, failed ones are reported and take down no other."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import src.train
from src import config as configuration
from src.config import ROOT
from src.train import main
from src.training.learner import Learner
from tests.conftest import SMALL

QUICK = [
    *SMALL,
    "train.steps=1",
    "train.problems=1",
    "rounds=1",
    "evaluation.before=false",
    "evaluation.rounds=[1]",
    "evaluation.limit=1",
    "evaluation.samples=1",
]

FAILING = """
import runpy
from src.training.learner import Learner
update = Learner.update
def failing(self, *rows):
    if self.optimizer.param_groups[0]["initial_lr"] == 0.5:
        raise ValueError("the update broke\\nat the second line")
    return update(self, *rows)
Learner.update = failing
runpy.run_module("src.train", run_name="__main__", alter_sys=True)
"""
"""``src.train``, where every update at the learning rate 0.5 fails."""


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that take no time; that of seed 1 is stopped by a signal if the environment says so."""

    def trained(config: Any, directory: Path) -> dict[str, Any]:
        if config.settings.train.max_time:
            raise SystemExit(124)
        if os.environ.get("STOPPED") == str(config.settings.seed):
            raise SystemExit(143)
        final = {"validation/accuracy": 0.25 + config.settings.seed / 100}
        summary = {"complete": True, "seed": 0, "best": {}, "final": final, "wall_clock_seconds": 1.0}
        (directory / "metrics.jsonl").write_text('{"tokens/generated": 7}\n')
        (directory / "summary.json").write_text(json.dumps(summary))
        return summary

    monkeypatch.setattr(src.train, "trained", trained)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    update = Learner.update

    def fails(self: Learner, *rows: Any) -> Any:
        if self.optimizer.param_groups[0]["initial_lr"] == 0.5:
            raise ValueError("the update broke\nat the second line")
        return update(self, *rows)

    monkeypatch.setattr(Learner, "update", fails)


def launch(*overrides: str) -> int:
    return configuration.launch("train", src.train.job, list(overrides))


def table(sweep: Path) -> list[dict[str, str]]:
    """The rows of a sweep's table, without times."""
    with (sweep / "table.csv").open(encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def jobs(sweep: Path) -> list[Path]:
    return sorted(file.parent for file in sweep.glob("*/job.json"))


def test_a_failing_job_takes_down_no_other_and_is_reported(
    tmp_path: Path, failing: None, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "sweep"
    command = ["-m", *QUICK, "optimizer.lr=0.5,0.0001", f"hydra.sweep.dir={place}"]
    assert launch(*command) == 1
    said = capsys.readouterr()
    assert "Traceback" in said.err
    assert "1 of 2 jobs complete" in said.out
    assert "ValueError: the update broke" in said.out.rpartition("1 failed")[2]
    assert "at the second line" not in said.out
    assert f"python -m src.report runs='{place}/*'" in said.out
    failed, done = table(place)
    assert (failed["status"], failed["optimizer.lr"], failed["error"]) == (
        "failed",
        "0.5",
        "ValueError: the update broke",
    )
    assert (done["status"], done["optimizer.lr"], done["error"]) == ("complete", "0.0001", "")
    (summary,) = place.glob("*/summary.json")
    content = json.loads(summary.read_text())
    last = content["evaluations"]["after"][0]
    assert float(done[f"chain-sum/{last['split']}/rounds{last['rounds']} low"]) == last["low"]
    steps = [json.loads(line) for line in (summary.parent / "metrics.jsonl").read_text().splitlines()]
    assert int(done["tokens"]) == sum(step["tokens/generated"] for step in steps)
    assert done["directory"] == summary.parent.name
    assert json.loads((place / "sweep.json").read_text())["ended"] is True


def test_a_sweep_is_continued_by_its_directory_and_tries_failed_jobs_again(
    tmp_path: Path, instant: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "sweep"
    with monkeypatch.context() as broken:
        broken.setattr(src.train, "trained", lambda *arguments: (_ for _ in ()).throw(RuntimeError("out of memory")))
        server = ["engine=vllm-server", "engine.urls=[http://c:8000/v1]"]
        assert launch("-m", "debug=smoke", *server, "seed=0", f"hydra.sweep.dir={place}") == 1
    (folder,) = jobs(place)
    other = ["tracking=wandb", "tracking.mode=disabled", "engine.urls=[http://a:8000/v1,http://b:8000/v1]"]
    monkeypatch.setattr("sys.argv", ["src.train", f"resume={place}", *other])
    assert main() == 0
    assert [row["status"] for row in table(place)] == ["complete"]
    assert jobs(place) == [folder], "what a continuation may change does not name directories"
    capsys.readouterr()
    for other in ("seed=3", "train.max_timer=3", "engine.urls_of=3"):
        monkeypatch.setattr("sys.argv", ["src.train", f"resume={place}", other])
        assert main() == 2
        assert f"{other}: a continued sweep keeps its settings" in capsys.readouterr().err


def test_the_same_command_continues_a_sweep_that_was_cut(
    tmp_path: Path, instant: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["-m", *QUICK, "seed=0,1"]
    with monkeypatch.context() as stopping:
        stopping.setenv("STOPPED", "1")
        with pytest.raises(SystemExit, match="143"):
            launch(*command)
    assert "1 of 2 jobs complete" in capsys.readouterr().out
    (first,) = (tmp_path / "multirun").glob("*/*")
    assert launch(*command) == 0
    said = capsys.readouterr().out
    assert "It goes on with the sweep of this command that was cut" in said
    assert said.count("already complete, skipped") == 1
    assert [row["status"] for row in table(first)] == ["complete", "complete"]
    assert launch(*command[:-1], "seed=1") == 0, "another command is another sweep"
    assert launch(*command[:-1], "seed=1") == 0, "so is a command whose sweep has ended"
    assert len(list((tmp_path / "multirun").glob("*/*"))) == 3


def test_the_time_limit_of_a_job_does_not_end_the_sweep(tmp_path: Path, instant: None) -> None:
    command = ["-m", *QUICK, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    assert launch(*command, "train.max_time=1") == 124
    assert [row["error"] for row in table(tmp_path / "sweep")] == ["stopped by train.max_time"] * 2
    assert launch(*command) == 0


def test_the_name_of_a_directory_always_holds_the_seed(tmp_path: Path, instant: None) -> None:
    long = f"benchmark.name={'n' * 200}"
    assert launch("-m", *QUICK, "tracking=wandb", "tracking.mode=disabled", long, f"hydra.sweep.dir={tmp_path}") == 0
    assert launch("-m", *QUICK, long, "tracking=wandb", "seed=7,8", f"hydra.sweep.dir={tmp_path / 'seeds'}") == 0
    assert [name.name.rpartition("_")[2] for name in jobs(tmp_path)] == ["seed-0"]
    assert [name.name.rpartition("_")[2] for name in jobs(tmp_path / "seeds")] == ["seed-7", "seed-8"]


def test_an_interval_without_a_search_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("-m", "optimizer.lr=interval(0.1,0.2)", f"hydra.sweep.dir={tmp_path / 'sweep'}") == 2
    assert "an interval needs a sweeper that searches, e.g. hydra/sweeper=optuna" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_jobs_in_other_processes_are_refused_on_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    elsewhere = "hydra.launcher._target_=hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
    assert launch("-m", "seed=0,1", elsewhere, f"hydra.sweep.dir={tmp_path / 'sweep'}") == 2
    said = capsys.readouterr().err
    assert "starts a process for each job, but this command was started on 2 processes" in said
    assert not (tmp_path / "sweep").exists()


def killed_halfway(place: Path, overrides: list[str], complete: int) -> None:
    """Start a sweep, kill its process once some jobs are complete, start it again, and compare with an undisturbed one.

    One of the jobs fails.
    """
    command = [sys.executable, "-c", FAILING, "-m", *QUICK, *overrides]
    place.mkdir()
    for name in ("undisturbed", "killed"):
        process = subprocess.Popen(
            [*command, f"hydra.sweep.dir={place / name}"],
            cwd=ROOT,
            stdout=(place / f"{name}.txt").open("w"),
            stderr=subprocess.STDOUT,
        )
        if name == "killed":
            end = time.monotonic() + 400
            while len(list((place / name).glob("*/summary.json"))) < complete and time.monotonic() < end:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=800) == (1 if name == "undisturbed" else -signal.SIGKILL)
    killed = place / "killed"
    there = {file: file.stat().st_mtime_ns for file in killed.glob("*/summary.json")}
    total = len(jobs(place / "undisturbed"))
    assert complete <= len(there) < total - 1
    again = subprocess.run(
        [*command, f"hydra.sweep.dir={killed}"], cwd=ROOT, capture_output=True, text=True, timeout=800
    )
    assert again.returncode == 1, again.stderr
    assert again.stdout.count("already complete, skipped") == len(there)
    assert {file: file.stat().st_mtime_ns for file in there} == there, "no job ran twice"
    assert len(list(killed.glob("*/summary.json"))) == total - 1
    assert table(killed) == table(place / "undisturbed")
    shutil.rmtree(place)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_the_same_command(tmp_path: Path) -> None:
    killed_halfway(tmp_path / "sweeps", ["seed=0", "optimizer.lr=0.0001,0.5,0.0002"], 1)


@pytest.mark.slow
def test_a_killed_sweep_of_twelve_jobs_goes_on_with_the_same_command(tmp_path: Path) -> None:
    """Twelve jobs, one of which fails."""
    rates = ",".join(["0.0001", "0.5", *(f"0.000{n}" for n in range(2, 10)), "0.001", "0.002"])
    killed_halfway(tmp_path / "sweeps", ["seed=0", f"optimizer.lr={rates}"], 6)
