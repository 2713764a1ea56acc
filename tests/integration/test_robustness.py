"""The robustness experiment on evaluations of a run; tests/unit/benchmarks/test_perturbations.py has those by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.robustness import plot
from src.config import overlay
from src.evaluate import evaluate
from tests.helpers import markdown_tables


def test_evaluations_of_a_run_are_plotted_and_compared(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs both commands of the study. The run's own evaluations are the unperturbed originals."""
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(small_run, run)
    evaluate(overlay("evaluate", [f"run={run}", "benchmark.perturb=[renumbered,typos]"]), run)
    sizes = ["benchmark.train_size=8", "benchmark.validation_size=4", "benchmark.test_size=4"]
    lengths = ["benchmark=chain-sum-lengths", *sizes, "evaluation.rounds=[1,5]"]
    evaluate(overlay("evaluate", [f"run={run}", *lengths]), run)
    folder = run / "evaluation" / "step_4"
    monkeypatch.setattr("sys.argv", ["plot", str(folder), "--out", str(out)])
    plot.main()
    assert (out / "lengths.png").read_bytes().startswith(b"\x89PNG")
    _, *rows = markdown_tables.rows((out / "perturbations.md").read_text())
    assert {tuple(row[:3]) for row in rows} == {
        (f"chain-sum-{split}", rounds, name)
        for split in ("easy", "hard")
        for rounds in ("1", "3")
        for name in ("renumbered", "typos")
    }
    for row in rows:
        assert row[3] == "4 of 4"
        own = json.loads((folder / f"{row[0]}_rounds{row[1]}.json").read_text())
        assert row[4].startswith(f"{100 * own['accuracy']:.1f} [")
    found = plot.by_length([folder])
    assert {rounds: list(points) for rounds, points in found.items()} == {key: [*range(3, 16, 2)] for key in (1, 5)}
    for rounds, points in found.items():
        for terms, value in points.items():
            file = folder / f"chain-sum-lengths-terms-{terms}_rounds{rounds}.json"
            assert value.estimate == json.loads(file.read_text())["accuracy"]
