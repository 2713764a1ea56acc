"""Sweeps with Hydra's plug-ins; each test needs ``pip install 'motif-lab[sweeps,ray]'`` and is skipped elsewhere."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest

import src.train
from src import config as configuration
from src.config.requests import requested
from src.config.sweeping import refuse_without_objective
from src.types import InputError
from tests.integration.test_sweeps import QUICK


def needs(plugin: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec("hydra_plugins") is not None
    there = there and importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    return pytest.mark.skipif(not there, reason=f"{plugin} is not installed; pip install 'motif-lab[sweeps]'")


def launch(*overrides: str) -> int:
    return configuration.launch("train", src.train.job, list(overrides))


def rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(importlib.util.find_spec("hydra_plugins") is not None, reason="for where no plug-in is installed")
def test_a_recipe_whose_plugin_is_missing_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("experiment/sweep=optuna") == 2
    assert "hydra/sweeper=optuna is not installed; valid: basic, or install the plug-in" in capsys.readouterr().err


def test_a_search_needs_an_objective() -> None:
    never = configuration.compose("train", ["evaluation.every=0"])
    with pytest.raises(InputError, match=r"evaluation.every=0: a search maximizes validation accuracy"):
        refuse_without_objective("train", [never])
    with pytest.raises(InputError, match=r"src.evaluate has no objective"):
        refuse_without_objective("evaluate", [])


@needs("hydra_optuna_sweeper")
def test_a_search_maximizes_validation_accuracy_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    limits = ["evaluation.every=1", "hydra.sweeper.n_trials=3", f"hydra.sweep.dir={tmp_path}"]
    command = ["experiment/sweep=optuna", *QUICK, *limits]
    assert launch(*command) == 0
    first = rows(tmp_path)
    assert len(first) == 3
    assert all(1e-5 <= float(row["optimizer.lr"]) <= 1e-3 for row in first)
    best = max(float(row["validation"]) for row in first)
    assert f"best_value: {best}" in (tmp_path / "optimization_results.yaml").read_text()
    capfd.readouterr()
    assert launch(*command) == 0
    assert capfd.readouterr().out.count("already complete, skipped") == 3
    assert rows(tmp_path) == first


@needs("hydra_optuna_sweeper")
def test_a_search_without_a_recipe_maximizes_too() -> None:
    request = requested("train", ["hydra/sweeper=optuna", "optimizer.lr=interval(1e-5,1e-3)", "rounds=1,3"], True)
    assert request.search
    assert "hydra.sweeper.direction=maximize" in request.flags
    rate = "optimizer.lr="
    assert [job[1] for job in request.jobs] == [f"{rate}1e-05", f"{rate}0.001", f"{rate}1e-05"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_jobs_in_other_processes_report_their_failures(launcher: str, tmp_path: Path) -> None:
    plugin = f"hydra_{launcher.partition('_')[0]}_launcher"
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"{plugin} is not installed; pip install 'motif-lab[sweeps,ray]'")
    place = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${hydra.job.num}"]
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "rollouts").write_text("a file where a folder belongs")
    at_once = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    command = [
        "-m",
        *QUICK,
        "seed=0,1,2",
        f"hydra/launcher={launcher}",
        *at_once,
        *place,
    ]
    assert launch(*command) == 1
    assert [row["status"] for row in rows(tmp_path)] == ["complete", "failed", "complete"]
    (tmp_path / "1" / "rollouts").unlink()
    assert launch(*command) == 0
    assert [row["status"] for row in rows(tmp_path)] == ["complete"] * 3
