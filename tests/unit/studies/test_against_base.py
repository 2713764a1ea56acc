"""Planned comparisons of trained runs with the policy that they started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.config import build
from src.reporting.evaluations import Name
from src.reporting.pairs import Pair
from src.reporting.runs import Group, Run
from src.studies import comparing, further
from src.studies.comparing import comparisons
from src.studies.registering import Plan
from src.studies.settings import Study
from src.types import InputError

VALUES: dict[str, Any] = {
    "_target_": "src.studies.settings.Study",
    "question": "?",
    "runs": {"a": [], "b": []},
    "evaluations": {"before": {"overrides": [], "of": ["base"]}},
    "comparisons": [["base", "a"]],
}
TEST = Name("sums", "easy", 3)


def summary(right: list[int], problems: str = "these") -> dict[str, Any]:
    named = TEST._asdict()
    return {**named, "per_problem": right, "samples": 2, "decided_by": {"problems": {"sha256": problems}}}


def group(*after: dict[str, Any], label: str = "a") -> Group:
    runs = (
        Run(Path(str(seed)), seed, "sums", {}, {}, frozenset(), {"evaluations": {"after": [one]}}, [])
        for seed, one in enumerate(after)
    )
    return Group(label, tuple(runs))


def found(*before: dict[str, Any], policy: str = "base") -> dict[str, comparing.Found]:
    return {"before": {(policy, TEST): {seed: (Path("base"), one) for seed, one in enumerate(before)}}}


def against(*before: dict[str, Any], after: list[dict[str, Any]], policy: str = "base") -> list[Pair]:
    return comparing.against_base(found(*before, policy=policy), group(*after)).rows


def test_seeds_and_problems_are_paired() -> None:
    (pair,) = against(
        summary([2, 0, 0, 1]), summary([0, 0, 0, 1]), after=[summary([2, 1, 0, 2]), summary([2, 0, 0, 2])]
    )
    assert (pair.split, pair.rounds, pair.first, pair.second, pair.tokens) == ("easy", 3, "base", "a", None)
    # seed 0: +0, +1/2, +0, +1/2 of a problem; seed 1: +1, +0, +0, +1/2
    assert pair.problems.estimate == pytest.approx((1 / 4 + 3 / 8) / 2)
    assert pair.seeds is not None
    assert pair.seeds.estimate == pytest.approx(5 / 16)
    assert pair.joint is not None
    assert pair.joint.estimate == pytest.approx(5 / 16)


def test_only_the_base_on_the_same_problems_counts() -> None:
    assert against(summary([1, 0]), after=[summary([1, 1], "others")]) == []
    assert against(summary([1, 0]), after=[summary([1, 1])], policy="b") == []
    assert against(after=[summary([1, 1])]) == []
    (pair,) = against(summary([1, 0]), after=[summary([1, 1]), summary([2, 2])])  # the base of seed 1 is missing
    assert pair.joint is None
    assert pair.problems.estimate == pytest.approx(1 / 4)


def test_the_report_has_them_only_if_they_were_planned() -> None:
    study = build(VALUES, Study)
    before, groups = found(summary([1, 0])), [group(summary([2, 1]))]
    planned = Plan("today", study.described())
    title, table, *others = comparisons(study, planned, groups, before)
    assert title == "## Planned comparisons"
    assert "| base" in table
    assert "| -" in table, "the base has no training tokens"
    assert others == []
    title, _, table = comparisons(study, Plan("today", study.described() | {"comparisons": []}), groups, before)
    assert title == "## Comparisons that were not planned"
    assert "| base" in table
    others = build(VALUES | {"comparisons": []}, Study)
    assert list(comparisons(others, Plan("today", others.described()), groups, before)) == []


def decided(one: dict[str, Any], base: str = "weights", **strategy: Any) -> dict[str, Any]:
    """The summary of an evaluation with a strategy."""
    return one | {"base_sha256": base, "decided_by": {**one["decided_by"], "strategy": strategy}}


def test_a_base_of_another_protocol_or_of_other_weights_is_not_compared() -> None:
    after = [decided(summary([1, 1]), trajectories=2, branching=[4, 1], carry="answer")]
    same = decided(summary([1, 0]), trajectories=4, branching=[2, 1], carry="answer")
    rows, missing = comparing.against_base(found(same), group(*after))
    assert (len(rows), missing) == (1, [])
    for other, why in (
        (decided(summary([1, 0]), carry="history"), "another protocol, rounds.carry"),
        (decided(summary([1, 0]), base="others", carry="answer"), "of other weights than the runs started from"),
        (decided(summary([1, 0], "others"), carry="answer"), "other problems"),
    ):
        rows, missing = comparing.against_base(found(other), group(*after))
        assert rows == []
        assert missing == [f"base with a: easy over 3 rounds (evaluation before: {why})"]
    rows, missing = comparing.against_base({}, group(*after))
    assert missing == ["base with a: easy over 3 rounds (no evaluation of base with these seeds)"]


def test_several_evaluations_of_the_base_are_named() -> None:
    before = {name: found(summary([1, 0]))["before"] for name in ("few", "many")}
    rows = comparing.against_base(before, group(summary([1, 1]))).rows
    assert [row.first for row in rows] == ["base (few)", "base (many)"]


@pytest.mark.parametrize(
    "change",
    [
        {"evaluations": {}},
        {"evaluations": {"before": {"overrides": [], "of": ["a"]}}},
        {"comparisons": [["a", "base"]]},
        {"comparisons": [["base"]]},
    ],
)
def test_the_base_is_compared_only_as_the_first_and_if_it_is_evaluated(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"must be two of the runs a, b; the first may be base, if"):
        build(VALUES | change, Study)


def test_errors_of_the_verifier_reach_the_comparison() -> None:
    error = {"verifier_error": {"accepted": 10, "wrong": 100, "rejected": 20, "right": 100}}
    before, after = ([summary(right) | error] for right in ([2, 0, 0, 1], [2, 2, 1, 2]))
    (pair,) = against(*before, after=after)
    assert pair.corrected is not None
    assert pair.corrected.estimate == pytest.approx(pair.problems.estimate / 0.7)


def test_the_floor_of_either_evaluation_reaches_the_comparison() -> None:
    floor = {"floor": {"estimate": 0.0, "low": 0.0, "high": 0.9}}
    (pair,) = against(summary([2, 0, 0, 1]) | floor, after=[summary([2, 2, 1, 2])])
    assert pair.below_floor


def test_further_evaluations_carry_errors_of_measurement_into_comparisons() -> None:
    errors = {
        "floor": {"estimate": 0.0, "low": 0.0, "high": 0.9},
        "verifier_error": {"accepted": 10, "wrong": 100, "rejected": 20, "right": 100},
    }
    numbers = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "majority": 0.5, "tokens_per_answer": 9.0}
    both = {
        (run, TEST): {0: (Path(run), summary(right) | errors | numbers)}
        for run, right in (("base", [2, 0, 0, 1]), ("a", [2, 2, 1, 2]))
    }
    study = build(VALUES, Study)
    text = "".join(further.tables(study, Plan("today", study.described()), {"before": both}, {}))
    assert "| corrected" in text
    assert "] ~" in text or ") ~" in text
