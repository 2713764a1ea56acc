"""Recorded studies: every table and quoted number follows from the recorded summaries."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from experiments.recorded import groups, rebuild, with_table
from src.config import ROOT
from src.evaluation.statistics import Interval
from src.reporting.evaluations import Name, evaluations
from src.reporting.tables import over_seeds, results
from src.studies import recording
from src.types import InputError
from tests.helpers import markdown_tables

EXPERIMENTS = ROOT / "experiments"
STUDIES = sorted(file.parent for file in EXPERIMENTS.rglob("groups.json"))
PLANNED = sorted(file.parent for file in EXPERIMENTS.rglob(recording.JOBS))


def table_rows(study: Path) -> list[list[str]]:
    return markdown_tables.rows((study / "README.md").read_text(encoding="utf-8"))


def percent(value: Interval | None, sign: str = "") -> str:
    assert value is not None
    estimate, low, high = (f"{100 * number:{sign}.1f}" for number in (value.estimate, value.low, value.high))
    return f"{estimate} [{low}, {high}]"


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: str(study.relative_to(EXPERIMENTS)))
def test_the_tables_of_a_study_are_rebuilt_from_its_summaries(study: Path) -> None:
    for name, text in rebuild(study).items():
        assert (study / name).read_text(encoding="utf-8") == text, name
    recorded = list((study / "runs").glob("*.json"))
    assert sorted(run.path for group in groups(study) for run in group.runs) == sorted(recorded), "each run counts once"


@pytest.mark.parametrize("study", PLANNED, ids=lambda study: study.name)
def test_the_report_of_a_planned_study_is_rebuilt_from_its_record(study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(study, tmp_path / study.name))
    recording.rebuild(copy)
    for name in ("report.md", "results.csv"):
        assert (copy / name).read_text(encoding="utf-8") == (study / name).read_text(encoding="utf-8"), name


NUMBER = re.compile(r"([+-]?\d+\.\d)(?: %| points| points less)? \[([+-]?\d+\.\d), ([+-]?\d+\.\d)\]")
"""An accuracy or a difference with its interval, as reports and their pages write them."""


def numbers(*files: Path, reversed_too: bool = False) -> set[tuple[float, ...]]:
    """The numbers with intervals in ``files``; ``reversed_too`` adds differences in the other direction."""
    texts = [" ".join(file.read_text(encoding="utf-8").split()) for file in files]
    found = {tuple(map(float, match.groups())) for text in texts for match in NUMBER.finditer(text)}
    return found | {(-estimate, -high, -low) for estimate, low, high in found if reversed_too}


@pytest.mark.parametrize("study", PLANNED, ids=lambda study: study.name)
def test_the_page_of_a_planned_study_quotes_its_report(study: Path) -> None:
    quoted = numbers(study / "README.md")
    assert quoted
    assert quoted <= numbers(study / "report.md", reversed_too=True)


def test_the_page_of_findings_quotes_recorded_numbers() -> None:
    tables = [file for name in ("report", "results", "pairs") for file in EXPERIMENTS.rglob(f"{name}.md")]
    quoted = numbers(ROOT / "docs" / "findings.md")
    assert len(quoted) > 10
    assert quoted <= numbers(*tables, reversed_too=True)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: str(study.relative_to(EXPERIMENTS)))
def test_no_recorded_interval_has_zero_width(study: Path) -> None:
    rows = results(groups(study))
    assert rows
    for row in rows:
        for interval in filter(None, (row.base, row.trained, row.change)):
            assert interval.low < interval.high


def test_the_first_page_quotes_the_recorded_result() -> None:
    (row,) = [
        row
        for row in results(groups(EXPERIMENTS / "main_job"))
        if (row.group, row.split, row.rounds) == ("rounds=3", "hard", 3)
    ]
    assert row.base is not None
    base, (trained, low, high) = row.base.estimate, (row.trained.estimate, row.trained.low, row.trained.high)
    quoted = f"{100 * base:.1f} → {100 * trained:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    assert quoted in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_precision_study_quotes_its_own_and_the_main_jobs_numbers() -> None:
    quoted = {tuple(head.split(", ")): cells for head, *cells in table_rows(EXPERIMENTS / "precision") if ", " in head}
    del quoted["test split", "rounds"]
    half = {(row.split, str(row.rounds)): row for row in results(groups(EXPERIMENTS / "precision"))}
    full = {
        (row.split, str(row.rounds)): row
        for row in results(groups(EXPERIMENTS / "main_job"))
        if row.group == "rounds=3"
    }
    assert quoted.keys() == half.keys() == full.keys()
    for key, cells in quoted.items():
        by_seed = zip(half[key].seeds["trained"], full[key].seeds["trained"], strict=True)
        differences = ", ".join(f"{100 * (own - other):+.1f}" for own, other in by_seed)
        intervals = (half[key].base, half[key].trained, full[key].trained)
        assert cells == [*map(percent, intervals), differences]


def test_the_credit_study_quotes_its_pairs() -> None:
    """The intervals over problems need the answers, which are not recorded; all else follows from the summaries."""
    named = {f"experiment={group.label}": group for group in groups(EXPERIMENTS / "credit")}
    recorded = [row for row in markdown_tables.rows((EXPERIMENTS / "credit" / "pairs.md").read_text()) if "=" in row[2]]
    assert len(recorded) == 3 * 4
    for split, rounds, *both, over_problems, over, _ in recorded:
        first, second = (named[name.partition(",")[0]] for name in both)
        name = Name("chain-sum", split, int(rounds))
        one, other = ([run.evaluations("after")[name]["accuracy"] for run in group.runs] for group in (first, second))
        assert over == percent(over_seeds([b - a for a, b in zip(one, other, strict=True)]), "+")
        assert over_problems.partition(" [")[0] == over.partition(" [")[0]
    short = [
        [*row[:2], *(name.removeprefix("experiment=").partition(",")[0] for name in row[2:4]), *row[4:]]
        for row in recorded
    ]
    quoted = [row for row in table_rows(EXPERIMENTS / "credit") if row[2] in ("grpo", "motif") and len(row) == 7]
    assert quoted
    assert all(row in short for row in quoted)


def test_the_credit_study_names_both_intervals_of_its_findings() -> None:
    """A finding that quotes an interval quotes the one over problems and the one over seeds, as recorded."""
    readme = EXPERIMENTS / "credit" / "README.md"
    pairs = {tuple(row[:4]): row[4:6] for row in table_rows(readme.parent) if len(row) == 7}
    text = " ".join(readme.read_text(encoding="utf-8").split())
    for split in ("hard", "easy"):
        problems, seeds = (cell.replace("+", "") for cell in pairs[split, "3", "motif", "tree"])
        (points, over_problems), (_, over) = problems.split(" ", 1), seeds.split(" ", 1)
        assert f"{points} points on `{split}` (over problems {over_problems}, over seeds {over})" in text
        if split == "hard":
            for page in ("README.md", "docs/credit.md"):
                words = " ".join((ROOT / page).read_text(encoding="utf-8").split())
                assert f"{points} points" in words, page
                assert f"over problems {over_problems}, over seeds {over}" in words, page


@pytest.mark.parametrize("study", ["sums", "gsm8k"])
def test_the_study_of_smollm2_quotes_its_results(study: str) -> None:
    folder = EXPERIMENTS / "smollm2"
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, *sections = text.split("\n## ")
    (section,) = [section for section in sections if f"({study}/before_after.png)" in section]
    quoted = {(row[0], row[1]): row for row in markdown_tables.rows(section) if row[0].startswith("n = ")}
    found = results(groups(folder / study))
    assert len(quoted) == len(found) == 4
    for row in found:
        asked = f"{row.rounds} round{'s' if row.rounds > 1 else ''}"
        cells = quoted[row.group.replace("rounds=", "n = "), asked]
        assert cells[2] == f"{percent(row.base)} → {percent(row.trained)}"
        assert f"{row.base_tokens:.1f} → {row.tokens:.1f}" in cells
        if study == "sums":
            assert cells[3].strip("*") == percent(row.change, "+")


def test_the_study_of_recipes_quotes_its_runs() -> None:
    folder = EXPERIMENTS / "recipes"
    quoted = {row[0].strip("`"): row for row in table_rows(folder) if row[0].startswith("`")}
    files = sorted((folder / "runs").glob("*.json"))
    assert quoted.keys() == {file.stem for file in files}
    for file in files:
        summary = json.loads(file.read_text(encoding="utf-8"))
        before, after = (evaluations(summary, part, "chain-sum") for part in ("before", "after"))
        rounds = max(name.rounds for name in after)
        for split, cell in zip(("easy", "hard"), quoted[file.stem][3:], strict=True):
            name = Name("chain-sum", split, rounds)
            both = [Interval(*(part[name][key] for key in ("accuracy", "low", "high"))) for part in (before, after)]
            assert cell == " → ".join(map(percent, both))
            assert both[0].disjoint(both[1])  # as the text says


def test_a_page_without_the_table_stays_as_it_is() -> None:
    assert with_table("# Title\n\ntext\n", "| runs |") == "# Title\n\ntext\n"


def test_a_folder_without_a_record_is_refused() -> None:
    with pytest.raises(InputError, match=r"credit: no recorded study \(it has no jobs.json\)"):
        recording.recorded(EXPERIMENTS / "credit")
