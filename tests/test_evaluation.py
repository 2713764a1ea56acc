"""Statistics against published figures, closed forms, brute force and simulation."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest

from src.evaluation import Interval, accuracy, majority, paired_difference, pass_at_k, wilson


@pytest.mark.parametrize(
    ("rate", "trials", "low", "high"),
    [(0.448, 500, 0.405, 0.492), (0.486, 500, 0.442, 0.530), (0.0, 30, 0.0, 0.1135), (1.0, 30, 0.8865, 1.0)],
)
def test_wilson_gives_published_intervals(rate: float, trials: int, low: float, high: float) -> None:
    interval = wilson(rate, trials)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-4)


def test_one_sample_a_problem_is_plain_wilson() -> None:
    correct = [[1.0]] * 30 + [[0.0]] * 70
    assert accuracy(correct) == wilson(0.3, 100)


def test_copies_of_a_sample_add_no_information() -> None:
    once = accuracy([[1.0]] * 30 + [[0.0]] * 70)
    copied = accuracy([[1.0] * 4] * 30 + [[0.0] * 4] * 70)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=2e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_unanimous_samples_keep_an_interval(value: float) -> None:
    interval = accuracy([[value] * 4] * 50)
    assert interval == wilson(value, 50)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_intervals_cover_the_truth_as_often_as_they_say(spread: float) -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(600):
        chances = [0.5 + rng.choice([-spread, spread]) for _ in range(80)]
        interval = accuracy([[float(rng.random() < chance) for _ in range(4)] for chance in chances])
        covered += interval.low <= 0.5 <= interval.high
    assert 0.93 <= covered / 600 <= 0.97


@pytest.mark.parametrize(("row", "k"), [([1, 0, 0, 0], 2), ([1, 1, 0, 0, 0], 3), ([0, 0, 0], 1), ([1, 1], 2)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(row: list[float], k: int) -> None:
    subsets = list(itertools.combinations(row, k))
    assert pass_at_k([row], k) == pytest.approx(sum(any(subset) for subset in subsets) / len(subsets))


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["7", "7", "8"], [1, 1, 0], 1.0),
        (["7", "8", "8"], [1, 0, 0], 0.0),
        (["7", "8"], [1, 0], 0.5),
        (["7", None, None], [1, 0, 0], 1.0),
        ([None, None], [0, 0], 0.0),
    ],
)
def test_majority(answers: list[str | None], correct: list[float], expected: float) -> None:
    assert majority([answers], [correct]) == expected


def test_paired_difference_by_hand() -> None:
    change = paired_difference([[0, 0], [1, 0], [1, 1]], [[1, 1], [1, 1], [1, 1]])
    half = 1.959964 * statistics.stdev([1.0, 0.5, 0.0]) / 3**0.5
    assert (change.estimate, change.low, change.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-6)


def test_disjoint_intervals_share_no_point() -> None:
    assert Interval(0.1, 0.0, 0.2).disjoint(Interval(0.4, 0.3, 0.5))
    assert not Interval(0.1, 0.0, 0.2).disjoint(Interval(0.3, 0.2, 0.5))
