"""Votes of fewer samples, calibration of vote shares, and how answers end: by hand and by brute force."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest

from src.evaluation.answers import attempts, vote_calibration, votes_of
from src.evaluation.statistics import majority


def test_a_vote_of_all_samples_is_the_majority_and_one_vote_the_accuracy() -> None:
    answers: list[list[str | None]] = [["7", "7", "8"], ["1", "2", None]]
    correct = [[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    assert votes_of(answers, correct, 3) == majority(answers, correct)
    assert votes_of(answers, correct, 1) == pytest.approx(3 / 6)


def test_fewer_votes_are_averaged_over_subsets() -> None:
    row, verdicts = ["7", "7", "8", None], [1.0, 1.0, 0.0, 0.0]
    each = [
        majority([[row[i] for i in chosen]], [[verdicts[i] for i in chosen]])
        for chosen in itertools.combinations(range(4), 2)
    ]
    assert votes_of([row], [verdicts], 2) == pytest.approx(statistics.fmean(each))


def test_votes_of_many_samples_are_averaged_over_the_same_random_subsets() -> None:
    answers: list[list[str | None]] = [[str(n % 3) for n in range(20)]]
    correct = [[float(n % 3 == 0) for n in range(20)]]
    assert votes_of(answers, correct, 9) == votes_of(answers, correct, 9)
    assert 0 < votes_of(answers, correct, 9) < 1


def test_the_calibration_by_hand() -> None:
    answers: list[list[str | None]] = [["7", "7"], ["7", "7"], ["1", "2"], [None, None]]
    correct = [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    found = vote_calibration(answers, correct)
    assert found["shares"] == {
        "0": {"problems": 1, "accuracy": 0.0},
        "0.5": {"problems": 1, "accuracy": 0.5},  # a tie of a right and a wrong answer
        "1": {"problems": 2, "accuracy": 0.5},
    }
    assert found["error"] == pytest.approx(2 / 4 * 0.5)
    assert found["brier"] == pytest.approx((0 + 1 + 0 + 0) / 4)


def test_answers_end_in_one_of_five_ways() -> None:
    def record(correct: float, answer: str | None, status: str = "done") -> dict[str, Any]:
        return {"correct": correct, "answer": answer, "statuses": ["done", status]}

    records = [
        record(1.0, "7"),
        record(0.0, "8"),
        record(0.0, "8"),
        record(0.0, None),
        record(0.0, None, "truncated"),
        record(0.5, "9", "truncated"),
    ]
    found = attempts(records, [False, True, False, False, False, False])
    assert found == pytest.approx(
        {
            "right": 1 / 6,
            "wrong": 2 / 6,
            "changed_to_wrong": 1 / 6,
            "unanswered": 1 / 6,
            "truncated": 1 / 6,
            "right_of_stated": 1.5 / 4,
        }
    )
    assert attempts([record(0.0, None)], [False])["right_of_stated"] == 0.0
