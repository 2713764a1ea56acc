"""Evaluations in summaries of current and older runs."""

from __future__ import annotations

import csv
import json
import statistics

import pytest

from src.config import ROOT
from src.reporting.evaluations import Name, evaluations

ONE = {"benchmark": "sums", "split": "easy", "rounds": 1, "accuracy": 0.25}
CHANGE = {"estimate": 0.5, "low": 0.25, "high": 0.75}
FOUR = {"benchmark": "sums", "split": "with, comma", "rounds": 4, "accuracy": 0.75}


def test_evaluations_are_found_by_benchmark_split_and_rounds() -> None:
    summary = {"evaluations": {"before": [], "after": [ONE, FOUR]}}
    expected = {Name("sums", "easy", 1): ONE, Name("sums", "with, comma", 4): FOUR}
    assert evaluations(summary, "after", "of the run") == expected
    assert evaluations(summary, "before", "of the run") == {}


def test_evaluations_in_older_summaries_belong_to_the_benchmark_of_the_run() -> None:
    older = {"easy, 1 round": {"accuracy": 0.25}, "with, comma, 4 rounds": {"accuracy": 0.75}}
    found = evaluations({"evaluations": {"after": older}}, "after", "sums")
    assert {name: one["accuracy"] for name, one in found.items()} == {
        Name("sums", "easy", 1): 0.25,
        Name("sums", "with, comma", 4): 0.75,
    }


def test_a_change_of_older_summaries_has_an_interval_with_a_width() -> None:
    change = {"easy, 1 round": {"estimate": 0.0, "low": 0.0, "high": 0.0}, "easy, 3 rounds": CHANGE}
    after = {name: {"problems": 64} for name in change}
    found = evaluations({"evaluations": {"change": change, "after": after}}, "change", "sums")
    share = 1 - 0.05 ** (1 / 64)  # of problems that may differ, although none of 64 does
    assert found["sums", "easy", 1] == {"estimate": 0.0, "low": -share, "high": share}
    wider = 0.25 * 1.998341 / 1.959964  # t of 63 degrees of freedom
    three = found["sums", "easy", 3]
    assert (three["low"], three["high"]) == pytest.approx((0.5 - wider, 0.5 + wider), abs=1e-6)
    with_t = {"easy, 3 rounds": {**CHANGE, "problems": 64}}
    again = evaluations({"evaluations": {"change": with_t, "after": after}}, "change", "sums")
    assert again["sums", "easy", 3]["low"] == 0.25


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ([Name("sums", "easy", 1), Name("sums", "hard", 1)], ["easy", "hard"]),
        ([Name("sums", "easy", 1), Name("products", "easy", 1)], ["sums/easy", "products/easy"]),
    ],
)
def test_labels_name_the_benchmark_if_there_are_several(names: list[Name], labels: list[str]) -> None:
    assert [name.label(names) for name in names] == labels


def test_the_recorded_runs_are_read() -> None:
    """The means over seeds in the recorded table, from the recorded summaries."""
    folder = ROOT / "experiments" / "main_job"
    summaries = [json.loads(file.read_text()) for file in sorted((folder / "runs").glob("*.json"))]
    runs = {rounds: [one for one in summaries if one["choices"]["rounds"] == rounds] for rounds in ("1", "3")}
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert len(rows) == 6
    for row in rows:
        of = runs[row["runs"].partition("=")[2]]
        name = Name("chain-sum", row["split"], int(row["rounds"]))
        for part, column in (("before", "base_estimate"), ("after", "trained_estimate")):
            found = [evaluations(summary, part, "chain-sum")[name]["accuracy"] for summary in of]
            assert len(found) == int(row["seeds"]) == 3
            assert statistics.fmean(found) == pytest.approx(float(row[column]))
