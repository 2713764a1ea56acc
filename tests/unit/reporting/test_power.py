"""What a comparison would find with other numbers of seeds and samples."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from src import config as configuration
from src.evaluation.joint import detectable, paired_components
from src.plan import plan
from src.reporting.power import design
from src.reporting.settings import PlanCommand
from tests.helpers import markdown_tables
from tests.unit.reporting.test_report import fake_run


def scores(mean: float, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((3, 80, 4)) < mean + 0.02 * rng.normal(size=(3, 1, 1))).astype(float)


def test_the_table_holds_what_each_design_finds() -> None:
    rng = np.random.default_rng(0)
    both = scores(0.5, rng), scores(0.6, rng)
    settings = PlanCommand(runs="x", effect=8.0, seeds=[2, 5, 40], samples=[1, 8])
    page = design(settings, "b against a", both)
    heads, *rows = markdown_tables.rows(page)
    assert heads == ["seeds", "1 samples", "8 samples"]
    found = paired_components(*both)
    for row, seeds in zip(rows, (2, 5, 40), strict=True):
        numbers = [100 * detectable(found, seeds, 80, samples) for samples in (1, 8)]
        assert row == [str(seeds), *(f"{number:.1f}" if number < 100 else "-" for number in numbers)]
    assert "A difference of 8 points takes 40 seeds and 1 samples a problem." in page or "takes 5 seeds" in page
    few = design(PlanCommand(runs="x", effect=0.1, seeds=[2], samples=[1]), "b against a", both)
    assert "None of these designs finds a difference of 0.1 points with that power." in few


def test_the_command_reads_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    for name, mean in (("a", 0.4), ("b", 0.6)):
        for seed in (0, 1, 2):
            choice = {"reward": {"a": "outcome", "b": "tree"}[name]}
            marks = (rng.random((40, 2)) < mean).astype(float).tolist()
            fake_run(tmp_path / f"{name}{seed}", seed, choices=choice, settings={"reward": choice}, marks=marks)
    assert configuration.launch("plan", plan, [f"runs='{tmp_path}/*'", "effect=20"]) == 0
    said = capsys.readouterr().out
    assert "## reward=tree against reward=outcome, easy, 3 rounds" in said
    assert "Measured with 3 seeds, 40 problems and 2 samples: +" in said
    assert re.search(r"A difference of 20 points takes \d+ seeds and \d+ samples", said)
    assert configuration.launch("plan", plan, [f"runs='{tmp_path}/a*'"]) == 2
    assert "no two groups of runs have two seeds in common" in capsys.readouterr().err


def test_settings_that_mean_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert configuration.launch("plan", plan, ["effect=0", "power=1", "seeds=[1]", "samples=[0]"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("effect=0", "power=1", "seeds", "samples")), said
    assert "4 problems found" in said
