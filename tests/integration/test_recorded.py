"""Recorded studies: every table and quoted number follows from the recorded summaries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.recorded import groups, rebuild, with_table
from src.config import ROOT
from src.reporting.tables import results

STUDIES = sorted(file.parent for file in (ROOT / "experiments").glob("*/groups.json"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_tables_of_a_study_are_rebuilt_from_its_summaries(study: Path) -> None:
    for name, text in rebuild(study).items():
        assert (study / name).read_text(encoding="utf-8") == text, name
    recorded = list((study / "runs").glob("*.json"))
    assert sorted(run.path for group in groups(study) for run in group.runs) == sorted(recorded), "each run counts once"


def test_the_first_page_quotes_the_recorded_result() -> None:
    (row,) = [
        row
        for row in results(groups(ROOT / "experiments" / "main_job"))
        if (row.group, row.split, row.rounds) == ("rounds=3", "hard", 3)
    ]
    assert row.base is not None
    base, (trained, low, high) = row.base.estimate, (row.trained.estimate, row.trained.low, row.trained.high)
    quoted = f"{100 * base:.1f} → {100 * trained:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    assert quoted in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_precision_study_quotes_its_own_and_the_main_jobs_numbers() -> None:
    text = (ROOT / "experiments" / "precision" / "README.md").read_text(encoding="utf-8")
    pattern = r"^\| (\w+), (\d) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|"
    quoted = {(split, int(rounds)): cells for split, rounds, *cells in re.findall(pattern, text, re.MULTILINE)}
    half = {(row.split, row.rounds): row for row in results(groups(ROOT / "experiments" / "precision"))}
    full = {
        (row.split, row.rounds): row
        for row in results(groups(ROOT / "experiments" / "main_job"))
        if row.group == "rounds=3"
    }
    assert quoted.keys() == half.keys() == full.keys()
    for key, cells in quoted.items():
        intervals = (half[key].base, half[key].trained, full[key].trained)
        for cell, interval in zip(cells, intervals, strict=True):
            assert interval is not None
            numbers = [100 * value for value in (interval.estimate, interval.low, interval.high)]
            assert cell == "{:.1f} [{:.1f}, {:.1f}]".format(*numbers)


def test_a_page_without_the_table_stays_as_it_is() -> None:
    assert with_table("# Title\n\ntext\n", "| runs |") == "# Title\n\ntext\n"
