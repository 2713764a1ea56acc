"""Errors of measurement in tables: differences corrected for the verifier, in results and in pairs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.corrected_changes import corrected_change
from src.evaluation.measuring import VerifierError
from src.reporting import pairs, tables
from src.reporting.measurement import error_of
from src.reporting.runs import Group, Run
from src.reporting.tables import results
from src.utils.floor import FLOOR
from tests.helpers import markdown_tables

ERROR = {"accepted": 10, "wrong": 100, "rejected": 20, "right": 100}
LEVEL = {"accuracy": 0.5, "low": 0.4, "high": 0.6}


def summary(
    right: list[int], error: dict[str, int] | None = None, labelled: str = "one", **more: Any
) -> dict[str, Any]:
    mean = sum(right) / len(right)
    found: dict[str, Any] = {
        **{"benchmark": "sums", "split": "easy", "rounds": 3, "step": 3, "key": "k", "samples": 1},
        **{"per_problem": right, "problems": len(right), "tokens_per_answer": 9.0},
        **{"accuracy": mean, "low": mean - 0.1, "high": mean + 0.1},
        "decided_by": {"problems": {"sha256": "these"}},
    }
    if error is not None:
        found |= {"verifier_error": error, "corrected": LEVEL}
        found["decided_by"]["labelled"] = labelled
    return found | more


def group(label: str, after: list[dict[str, Any]], before: list[dict[str, Any]] | None = None) -> Group:
    runs = []
    for seed, one in enumerate(after):
        found: dict[str, Any] = {"evaluations": {"before": [], "after": [one], "change": []}}
        if before is not None:
            base, name = before[seed], {part: one[part] for part in ("benchmark", "split", "rounds", "problems")}
            estimate = one["accuracy"] - base["accuracy"]
            change = {**name, "estimate": estimate, "low": estimate - 0.1, "high": estimate + 0.1}
            found["evaluations"] |= {"before": [base], "change": [change]}
        metrics = [{"tokens/generated": 10}]
        runs.append(Run(Path(f"{label}{seed}"), seed, "sums", {}, {}, frozenset(), found, metrics))
    return Group(label, tuple(runs))


FEW, MANY = [1, 0] * 20, [1, 1, 1, 0] * 10


def test_a_change_has_a_column_that_is_corrected_for_the_verifier() -> None:
    (row,) = results([group("", [summary(MANY, ERROR)], [summary(FEW, ERROR)])])
    assert row.change is not None
    assert row.corrected_change == corrected_change(row.change, VerifierError(**ERROR))
    assert row.corrected_change.estimate == pytest.approx(0.25 / 0.7)
    heads, cells, *_ = markdown_tables.rows(tables.markdown([row]))
    assert heads[4:7] == ["corrected", "change", "corrected change"]
    assert cells[6].startswith("+35.7 [")
    (record,) = csv.DictReader(tables.comma_separated([row]).splitlines())
    assert float(record["corrected_change_low"]) == row.corrected_change.low
    (plain,) = results([group("", [summary(MANY)], [summary(FEW)])])
    assert plain.corrected_change is None
    assert "corrected change" not in tables.markdown([plain])


@pytest.mark.parametrize("seeds", [1, 2])
def test_pairs_have_a_column_that_is_corrected_for_the_verifier(seeds: int) -> None:
    after = [[MANY, FEW], [MANY[1:] + MANY[:1], FEW]]
    first, second = (group("ab"[side], [summary(after[s][1 - side], ERROR) for s in range(seeds)]) for side in (0, 1))
    (pair,) = pairs.pairs([first, second])
    assert not pair.apart
    assert pair.corrected == corrected_change(pair.joint or pair.problems, VerifierError(**ERROR))
    (plain,) = pairs.pairs([group("ab"[side], [summary(after[s][1 - side]) for s in range(seeds)]) for side in (0, 1)])
    assert (pair.p, pair.problems, pair.joint) == (plain.p, plain.problems, plain.joint)
    heads, cells, *_ = markdown_tables.rows(pairs.markdown([pair]))
    assert heads[6:9] == ["joint", "corrected", "detectable"]
    assert "+35.7 [" in cells[7]
    assert pairs.CORRECTED in pairs.markdown([pair])
    assert "corrected" not in markdown_tables.rows(pairs.markdown([plain]))[0]


def test_sides_with_labelled_answers_of_their_own_are_corrected_each() -> None:
    """The second verifier accepts half of the wrong answers: more is accepted without being more accurate."""
    lenient = {"accepted": 50, "wrong": 100, "rejected": 0, "right": 100}
    exact = {"accepted": 0, "wrong": 100, "rejected": 0, "right": 100}
    found = pairs.pairs([group("a", [summary(FEW, exact)]), group("b", [summary(MANY, lenient, "other")])])
    (pair,) = found
    assert pair.problems.estimate == pytest.approx(0.25)
    assert pair.apart
    assert pair.corrected is not None
    assert pair.corrected.estimate == pytest.approx(0.0)
    assert pair.p > 0.9
    text = pairs.markdown(found)
    assert "†" in markdown_tables.rows(text)[1][7]
    assert pairs.APART in text


def test_a_difference_is_corrected_only_if_both_sides_have_measured_the_verifier() -> None:
    (pair,) = pairs.pairs([group("a", [summary(FEW)]), group("b", [summary(MANY, ERROR)])])
    assert pair.corrected is None
    other = {**ERROR, "rejected": 3}
    assert error_of([summary(FEW, ERROR), summary(FEW, other)]) is None, "seeds with other labelled answers"
    assert error_of([summary(FEW, ERROR), summary(FEW, ERROR)]) == (VerifierError(**ERROR), "one")


def floor(high: float) -> dict[str, dict[str, float]]:
    return {"floor": {"estimate": 0.0, "low": 0.0, "high": high}}


@pytest.mark.parametrize(("sides", "below"), [((0.3, 0.1), True), ((0.1, 0.3), True), ((0.2, 0.2), False)])
def test_pairs_below_the_floor_of_one_side_have_a_mark_of_their_own(sides: tuple[float, float], below: bool) -> None:
    (pair,) = found = pairs.pairs(
        [group("a", [summary(FEW, **floor(sides[0]))]), group("b", [summary(MANY, ERROR, **floor(sides[1]))])]
    )
    assert (pair.floor, pair.below_floor) == (max(sides), below)
    text = pairs.markdown(found)
    cells = markdown_tables.rows(text)[1]
    assert cells[4].endswith(" ~") == below
    assert cells[5] == "-", "no interval, no mark"
    assert (FLOOR in text) == below


def test_without_a_measured_floor_nothing_is_marked() -> None:
    (pair,) = pairs.pairs([group("a", [summary(FEW)]), group("b", [summary(FEW)])])
    assert (pair.floor, pair.below_floor) == (None, False)


def test_the_floor_of_the_base_counts_for_a_change() -> None:
    (row,) = results([group("", [summary(MANY, **floor(0.1))], [summary(FEW, **floor(0.3))])])
    assert (row.floor, row.below_floor) == (0.3, True)
