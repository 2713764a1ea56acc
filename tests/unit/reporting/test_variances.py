"""Spread between seeds and problems in tables: rounding errors are none, and variance components by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from src.evaluation.statistics import equal_differences, paired_difference, paired_p
from src.reporting import pairs, tables
from src.reporting.pairs import Pair, Verdicts


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
    return {**named, **numbers, "per_problem": verdicts.sum(axis=1).tolist(), "samples": samples}


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
