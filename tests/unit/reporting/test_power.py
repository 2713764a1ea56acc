"""What a comparison would find with other numbers of seeds and samples."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from src import config as configuration
from src.evaluation.joint import Components, detectable, paired_components, power
from src.plan import plan
from src.reporting.power import design
from src.reporting.settings import PlanCommand
from src.utils.files import write_json
from tests.helpers import markdown_tables
from tests.unit.evaluation.test_joint import drawn
from tests.unit.reporting.test_report import fake_run

Captured = pytest.CaptureFixture[str]


def scores(mean: float, rng: np.random.Generator) -> np.ndarray:
    return (rng.random((3, 80, 4)) < mean + 0.02 * rng.normal(size=(3, 1, 1))).astype(float)


def test_the_table_holds_what_each_design_finds() -> None:
    rng = np.random.default_rng(0)
    both = scores(0.5, rng), scores(0.6, rng)
    settings = PlanCommand(runs="x", effect=8.0, seeds=[2, 5, 40], samples=[1, 8])
    page = design(settings, "b against a", both)
    rows = markdown_tables.rows(page)
    assert [rows[0], rows[4]] == 2 * [["seeds", "1 sample", "8 samples"]], "as estimated, and at the upper limit"
    found = paired_components(*both)
    for start, components in ((1, found), (5, found.cautious)):
        for row, seeds in zip(rows[start : start + 3], (2, 5, 40), strict=True):
            numbers = [100 * detectable(components, seeds, 80, samples) for samples in (1, 8)]
            assert row == [str(seeds), *(f"{number:.1f}" if number < 100 else "> 100" for number in numbers)]
    assert "A difference of 8 points takes 40 seeds and 1 sample a problem: so many find it even with" in page
    assert "With the estimated variance, 5 seeds and 8 samples are enough, but 3 seeds estimate" in page
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
    assert re.search(r"A difference of 20 points takes \d+ seeds and \d+ samples?", said)
    assert configuration.launch("plan", plan, [f"runs='{tmp_path}/a*'"]) == 2
    assert "no two groups of runs have two seeds in common" in capsys.readouterr().err


def test_a_comparison_without_spread_plans_nothing() -> None:
    for level in (0.0, 1.0):
        same = np.full((3, 30, 4), level)
        page = design(PlanCommand(runs="x"), "b against a", (same, same))
        assert "The data show no spread" in page
        assert markdown_tables.rows(page) == []
        assert "takes" not in page


def test_the_recommended_design_has_its_power_in_most_pilots() -> None:
    """By estimates of 3 seeds alone, 3 in 10 recommended designs have a power below 60 %."""
    rng, true, problems = np.random.default_rng(3), Components(0.02**2, 0.02, 0.0, 0.3), 500
    settings = PlanCommand(runs="x", effect=3.0, samples=[4])
    real = {seeds: power(true, 0.03, seeds, problems, 4) for seeds in settings.seeds}
    small = 0
    for _ in range(60):
        change = drawn(rng, (3, problems, 4), true)
        page = design(settings, "b against a", (np.zeros_like(change), change))
        taken = re.search(r"A difference of 3 points takes (\d+) seeds", page)
        small += taken is not None and real[int(taken[1])] < 0.6
    assert small / 60 <= 0.2


def with_sums(folder: Path, marks: list[list[float]]) -> None:
    """Write the sums of a run's verdicts into its summary."""
    summary = json.loads((folder / "summary.json").read_text())
    for one in summary["evaluations"]["after"]:
        one["per_problem"], one["samples"] = [sum(row) for row in marks], len(marks[0])
        one["accuracy"] = float(np.mean(marks))
        one["pass_at"] = {"1": float(np.mean(np.array(marks) >= 1))}
        one["decided_by"] = {"problems": {"sha256": "ab"}}
    write_json(folder / "summary.json", summary)


def planned(folder: Path, levels: tuple[float, ...], samples: int, kept: tuple[int, ...], capsys: Captured) -> str:
    """What the command says about runs of two methods with three seeds each, at three rounds.

    Only the seeds ``kept`` have records; those of the others are deleted, as in recorded studies.
    """
    rng = np.random.default_rng(2)
    for name, easier in (("a", 0.0), ("b", 0.2)):
        for seed in (0, 1, 2):
            choice = {"reward": {"a": "outcome", "b": "tree"}[name]}
            drawn = rng.random((40, samples)) + easier
            marks = np.array(levels)[np.digitize(drawn, np.linspace(0, 1, len(levels) + 1)[1:-1])].tolist()
            run = fake_run(folder / f"{name}{seed}", seed, choices=choice, settings={"reward": choice}, marks=marks)
            with_sums(run, marks)
            for file in [] if seed in kept else (run / "evaluation").glob("*/*"):
                file.unlink()
    assert configuration.launch("plan", plan, [f"runs='{folder}/*'", "effect=20"]) == 0
    return capsys.readouterr().out.partition("3 rounds\n")[2].partition("## ")[0]


def test_sums_of_verdicts_plan_as_their_records_do(tmp_path: Path, capsys: Captured) -> None:
    full = planned(tmp_path / "records", (0.0, 1.0), 4, (0, 1, 2), capsys)
    assert full == planned(tmp_path / "sums", (0.0, 1.0), 4, (), capsys)
    assert full == planned(tmp_path / "mixed", (0.0, 1.0), 4, (1, 2), capsys), "a recorded study with further seeds"
    _, *rows = markdown_tables.rows(full)
    assert all(len({*row[1:]}) == 5 for row in rows[:6]), "more samples find smaller differences"
    assert "3 seeds, 40 problems and 4 samples" in full


def test_without_the_variance_of_sampling_only_the_samples_that_were_taken_are_shown(
    tmp_path: Path, capsys: Captured
) -> None:
    graded = planned(tmp_path / "graded", (0.0, 0.5, 1.0), 4, (), capsys)
    assert markdown_tables.rows(graded)[0] == ["seeds", "4 samples"]
    assert "The verdicts are graded and their records are deleted" in graded
    assert re.search(r"takes \d+ seeds and 4 samples a problem", graded)
    assert "seed x problem" in graded
    assert "(with sampling)" in graded
    assert len(markdown_tables.rows(planned(tmp_path / "all", (0.0, 0.5, 1.0), 4, (0, 1, 2), capsys))[0]) == 6
    for kept in ((0, 1, 2), ()):
        one = planned(tmp_path / f"one{len(kept)}", (0.0, 1.0), 1, kept, capsys)
        assert markdown_tables.rows(one)[0] == ["seeds", "1 sample"]
        assert "The data have one sample per problem" in one
        assert re.search(r"takes \d+ seeds and 1 sample a problem", one)


def test_settings_that_mean_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert configuration.launch("plan", plan, ["effect=0", "power=1", "seeds=[1]", "samples=[0]"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("effect=0", "power=1", "seeds", "samples")), said
    assert "4 problems found" in said
    assert "seeds=[1] must be a list of one or more whole numbers, 2 or more each" in said
    assert configuration.launch("plan", plan, ["seeds=[]", "samples=[]"]) == 2
    assert "2 problems found" in capsys.readouterr().err
