"""Spread between seeds and problems in tables: rounding errors are none, and variance components by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.evaluation.joint import components, detectable, detectable_over_problems, paired_components
from src.evaluation.statistics import equal_differences, paired_difference, paired_p
from src.reporting import notes, pairs, tables, variances
from src.reporting.pairs import Pair, Verdicts
from src.reporting.runs import Group, Run
from tests.helpers import markdown_tables


def compared(before: np.ndarray, after: np.ndarray) -> Pair:
    """The comparison of verdicts [seeds, problems, samples]."""
    sides: list[tuple[Verdicts, Verdicts]] = [
        (
            {("p", str(place)): list(row) for place, row in enumerate(a)},
            {("p", str(place)): list(row) for place, row in enumerate(b)},
        )
        for a, b in zip(before, after, strict=True)
    ]
    return pairs.pair(("easy", 3), ("x", "y"), sides, 1.0)


def summary(verdicts: np.ndarray) -> dict[str, Any]:
    """The summary of an evaluation with verdicts [problems, samples]."""
    mean, samples = float(verdicts.mean()), verdicts.shape[1]
    named = {"benchmark": "sums", "split": "easy", "rounds": 3, "decided_by": {"problems": {"sha256": "ab"}}}
    numbers = {"accuracy": mean, "low": mean - 0.1, "high": mean + 0.1, "estimate": mean, "tokens_per_answer": 9.0}
    return {**named, **numbers, "per_problem": verdicts.sum(axis=1).tolist(), "samples": samples} | {
        "pass_at": {"1": float((verdicts >= 1).mean())}
    }


def right_answers(shape: tuple[int, int, int], count: int) -> np.ndarray:
    """Verdicts of which as many are right for every seed and problem, in another order for each."""
    rng = np.random.default_rng(0)
    return rng.permuted(np.broadcast_to(np.arange(shape[2]) < count, shape).astype(float), axis=2)


@pytest.mark.parametrize("shape", [(3, 30, 3), (2, 30, 3), (3, 200, 5), (5, 30, 10)])
def test_differences_that_are_equal_up_to_rounding_show_no_spread(shape: tuple[int, int, int]) -> None:
    pair = compared(right_answers(shape, 1), right_answers(shape, 2))
    assert pair.joint is None
    assert pair.seeds is None
    assert pair.detectable is None
    assert pair.problems == equal_differences(pair.problems.estimate, shape[1])


@pytest.mark.parametrize("shape", [(3, 30, 3), (2, 30, 3), (5, 30, 10)])
def test_accuracies_that_are_equal_up_to_rounding_show_no_spread(shape: tuple[int, int, int]) -> None:
    accuracy = tables.over_runs([summary(one) for one in right_answers(shape, 1)])
    assert accuracy.high - accuracy.estimate == pytest.approx(0.1), "the mean interval over problems"


def test_changes_that_are_equal_up_to_rounding_have_the_interval_of_equal_ones() -> None:
    before, after = [[0.1], [0.2], [0.3]], [[0.3], [0.4], [0.5]]
    found, equal = paired_difference(before, after), equal_differences(0.2, 3)
    assert (found.low, found.high) == pytest.approx((equal.low, equal.high))
    assert paired_p(before, after) == pytest.approx((1 / 1.2) ** 3)
    assert paired_p([[0.1], [0.3]], [[0.3], [0.1]]) == 1.0
    assert paired_p([[0.1 + 0.2], [0.3]], [[0.3], [0.3]]) == 1.0


def group(verdicts: np.ndarray, before: np.ndarray | None = None) -> Group:
    """Runs whose evaluations have these verdicts, [seeds, problems, samples], after training, and others before it."""
    runs = []
    for seed, one in enumerate(verdicts):
        found = {"after": [summary(one)]}
        if before is not None:
            changed = one.mean() - before[seed].mean()
            change = summary(one) | {"estimate": changed, "low": changed - 0.1, "high": changed + 0.1, "problems": 9}
            found |= {"before": [summary(before[seed])], "change": [change]}
        runs.append(Run(Path(str(seed)), seed, "sums", {}, {}, frozenset(), {"evaluations": found}, []))
    return Group("", tuple(runs))


def drawn(shape: tuple[int, int, int], mean: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < mean).astype(float)


def test_the_components_of_accuracies_stand_below_results() -> None:
    verdicts = drawn((3, 40, 4), 0.5)
    text = variances.of_groups([group(verdicts)])
    heads, cells = markdown_tables.rows(text)
    assert heads == ["test split", "rounds", "seed", "seed, at most", "problem", "seed x problem", "sampling"]
    found = components(verdicts)
    parts = (found.seed, found.seed_limit, found.problem, found.both, found.sampling)
    assert cells == ["easy", "3", *(f"{100 * part**0.5:.1f}" for part in parts)]
    assert variances.NOTE in text
    assert found.sampling == pytest.approx(0.25, abs=0.03)
    assert variances.of_groups([group(verdicts[:1])]) == "", "one seed"
    assert variances.of_groups([group(np.ones((3, 40, 4)))]) == "", "no spread"


def test_without_several_answers_per_problem_sampling_is_not_known() -> None:
    for verdicts in (drawn((3, 40, 1), 0.5), drawn((3, 40, 4), 0.5) / 2):
        assert markdown_tables.rows(variances.of_groups([group(verdicts)]))[1][-1] == "-"


def test_results_have_the_detectable_change() -> None:
    before, after = drawn((3, 40, 4), 0.4), drawn((3, 40, 4), 0.6, 1)
    for seeds in (3, 1):
        (row,) = tables.results([group(after[:seeds], before[:seeds])])
        heads, cells = markdown_tables.rows(tables.markdown([row]))
        assert row.detectable is not None
        assert cells[heads.index("detectable")] == f"{100 * row.detectable:.1f}"
        assert notes.DETECTABLE in tables.markdown([row])
        (record,) = csv.DictReader(tables.comma_separated([row]).splitlines())
        assert float(record["detectable"]) == row.detectable
        if seeds == 3:
            assert row.detectable == detectable(paired_components(before, after), 3, 40, 4)
        else:
            assert row.detectable == detectable_over_problems(after[0].mean(axis=1) - before[0].mean(axis=1))
    (row,) = tables.results([group(np.ones((2, 9, 2)), np.ones((2, 9, 2)))])
    assert row.detectable is None
    assert "detectable" not in tables.markdown([row])


def test_comparisons_of_one_seed_have_the_detectable_difference_over_problems() -> None:
    before, after = drawn((1, 40, 4), 0.4), drawn((1, 40, 4), 0.6, 1)
    pair = compared(before, after)
    assert pair.detectable == detectable_over_problems((after - before).mean(axis=2)[0])
    assert (pair.common, pair.components) == (1, None)
    heads, cells = markdown_tables.rows(pairs.markdown([pair]))
    assert (heads[-1], cells[-1]) == ("seeds", "1")


def test_an_infinite_difference_is_more_than_100_points() -> None:
    before, after = np.zeros((2, 4, 1)), np.array([np.zeros((4, 1)), np.ones((4, 1))])
    pair = compared(before, after)
    assert pair.detectable == np.inf
    assert markdown_tables.rows(pairs.markdown([pair]))[1][7] == "> 100"
