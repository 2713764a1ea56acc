"""Statistics against published figures, closed forms, brute force and simulation."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from src.evaluation.statistics import (
    Interval,
    accuracy,
    majority,
    paired_difference,
    paired_p,
    pass_at_k,
    wilson,
)


@pytest.mark.parametrize(
    ("rate", "trials", "low", "high"),
    [(0.448, 500, 0.405, 0.492), (0.486, 500, 0.442, 0.530), (0.0, 30, 0.0, 0.1135), (1.0, 30, 0.8865, 1.0)],
)
def test_wilson_gives_published_intervals(rate: float, trials: int, low: float, high: float) -> None:
    interval = wilson(rate, trials)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-4)


def test_one_sample_per_problem_gives_wilsons_interval() -> None:
    correct = [[1.0]] * 30 + [[0.0]] * 70
    assert accuracy(correct) == wilson(0.3, 100)


def test_identical_samples_add_no_information() -> None:
    once = accuracy([[1.0]] * 30 + [[0.0]] * 70)
    copied = accuracy([[1.0] * 4] * 30 + [[0.0] * 4] * 70)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=2e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_unanimous_samples_still_have_an_interval(value: float) -> None:
    interval = accuracy([[value] * 4] * 50)
    assert interval == wilson(value, 50)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_intervals_have_the_nominal_coverage(spread: float) -> None:
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
    half = 4.302653 * statistics.stdev([1.0, 0.5, 0.0]) / 3**0.5  # t of 2 degrees of freedom
    assert (change.estimate, change.low, change.high) == pytest.approx((0.5, 0.5 - half, 1.0), abs=1e-6)  # clipped at 1


def test_disjoint_intervals_share_no_point() -> None:
    assert Interval(0.1, 0.0, 0.2).disjoint(Interval(0.4, 0.3, 0.5))
    assert Interval(0.4, 0.3, 0.5).disjoint(Interval(0.1, 0.0, 0.2))
    assert not Interval(0.1, 0.0, 0.2).disjoint(Interval(0.3, 0.2, 0.5))
    assert not Interval(0.3, 0.2, 0.5).disjoint(Interval(0.1, 0.0, 0.2))


@pytest.mark.parametrize(("rate", "trials"), [(0.3, 10), (0.5, 77), (0.99, 1000)])
def test_wilson_bounds_lie_one_quantile_from_the_estimate(rate: float, trials: int) -> None:
    interval = wilson(rate, trials)
    for end in (interval.low, interval.high):
        assert abs(rate - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / trials), rel=1e-6)


def test_independent_samples_count_almost_fully() -> None:
    rng = random.Random(1)
    correct = [[float(rng.random() < 0.4) for _ in range(8)] for _ in range(2000)]
    interval, full = accuracy(correct), wilson(statistics.fmean(map(statistics.fmean, correct)), 16000)
    assert (interval.low, interval.high) == pytest.approx((full.low, full.high), abs=1e-3)


@pytest.mark.parametrize("copies", [2, 5])
def test_identical_samples_give_exactly_the_interval_of_one_sample(copies: int) -> None:
    column = [1.0] * 3 + [0.0] * 8
    assert accuracy([[value] * copies for value in column]) == accuracy([[value] for value in column])


def test_problems_of_equal_difficulty_count_all_samples() -> None:
    assert accuracy([[1, 0], [0, 1], [1, 0], [1, 0]] * 100) == wilson(0.5, 800)  # no variance between problems


def test_few_problems_of_equal_difficulty_count_less_than_all_samples() -> None:
    assert accuracy([[1, 0], [0, 1], [1, 0]]) == wilson(0.5, 3)
    share = (1.959964 / 2.262157) ** 2  # t of 9 degrees of freedom
    assert accuracy([[1, 0]] * 10).high == pytest.approx(wilson(0.5, 20 * share).high, abs=1e-6)


def test_the_effective_sample_size_by_hand() -> None:
    """Means 3/4 and 1/4, 200 times each: the mean has the variance (1/16)(400/399)/400."""
    found, by_hand = accuracy([[1, 1, 1, 0], [1, 0, 0, 0]] * 200), wilson(0.5, 4 * 399)
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))


@pytest.mark.parametrize("trials", [16, 27, 40])
def test_rounding_leaves_no_bound_outside_of_0_and_1(trials: int) -> None:
    assert wilson(1.0, trials).high == 1.0
    assert wilson(0.0, trials).low == 0.0


def test_pass_at_k_averages_problems_and_counts_partly_correct_answers_as_wrong() -> None:
    assert pass_at_k([[1, 0], [0, 0], [1, 1]], 1) == pytest.approx(0.5)
    assert pass_at_k([[1, 0], [0, 0], [1, 1]], 2) == pytest.approx(2 / 3)
    assert pass_at_k([[0.99, 0.5]], 2) == 0.0


def test_majority_averages_problems() -> None:
    assert majority([["7", "7"], ["1", "2"], [None, None], ["3", "3"]], [[1, 1], [0, 1], [0, 0], [0, 0]]) == 0.375


@pytest.mark.parametrize("after", [0.0, 1.0])
def test_one_problem_gives_a_finite_interval(after: float) -> None:
    change = paired_difference([[0.0]], [[after]])
    assert change == Interval(after, -1.0, 1.0)


@pytest.mark.parametrize(("problems", "change"), [(2, 0.0), (3, 0.5), (30, -1.0), (8, 1.0)])
def test_equal_changes_are_bounded_by_what_was_not_seen(problems: int, change: float) -> None:
    """At most a share s = 1 - 0.05^(1/n) of problems differs: by change + 1 downwards, by 1 - change upwards."""
    before, after = max(0.0, -change), max(0.0, change)
    found = paired_difference([[before]] * problems, [[after]] * problems)
    share = 1 - 0.05 ** (1 / problems)
    assert found.estimate == change
    assert found.low == pytest.approx(change - share * (change + 1))
    assert found.high == pytest.approx(change + share * (1 - change))
    assert found.low < found.high


def test_no_change_leaves_the_range_of_a_difference() -> None:
    found = paired_difference([[1.0], [1.0], [1.0]], [[0.0], [0.0], [1.0]])
    assert (found.estimate, found.low) == (pytest.approx(-2 / 3), -1.0)


def test_lists_of_different_lengths_are_not_compared() -> None:
    for answers, correct in [([["7"]], [[1.0], [0.0]]), ([["7", "8"]], [[1.0]])]:
        with pytest.raises(ValueError, match="zip"):
            majority(answers, correct)
    with pytest.raises(ValueError, match="zip"):
        paired_difference([[1.0], [0.0]], [[1.0], [0.0], [1.0]])


def beta_binomial(rng: random.Random, problems: int, samples: int, level: float, spread: float) -> list[list[float]]:
    """Verdicts on problems of different difficulty, with the mean ``level``."""
    chances = [rng.betavariate(level * spread, (1 - level) * spread) for _ in range(problems)]
    return [[float(rng.random() < chance) for _ in range(samples)] for chance in chances]


LEVELS = [(0.5, 2.0), (0.1, 1.0), (0.8, 0.5), (0.3, 8.0)]


def covered(problems: int, samples: int, times: int) -> tuple[float, float]:
    """Share of 95 % intervals that hold the truth: of accuracies, and of changes of 0 (level of the paired test)."""
    rng, hits, kept = random.Random(0), 0, 0
    for level, spread in LEVELS:
        for _ in range(times):
            both = beta_binomial(rng, problems, 2 * samples, level, spread)
            before, after = [row[:samples] for row in both], [row[samples:] for row in both]
            interval, change = accuracy(before), paired_difference(before, after)
            hits += interval.low <= level <= interval.high
            kept += change.low <= 0 <= change.high
            assert (paired_p(before, after) > 0.05) == (change.low <= 0 <= change.high)
    return hits / (times * len(LEVELS)), kept / (times * len(LEVELS))


@pytest.mark.parametrize("samples", [1, 4])
def test_intervals_of_30_problems_cover_the_truth(samples: int) -> None:
    hits, kept = covered(30, samples, 200)
    assert 0.93 <= hits <= 0.975
    assert 0.93 <= kept <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize(("problems", "samples"), [(30, 1), (30, 2), (30, 4), (500, 1), (500, 4)])
def test_coverage_and_level_in_long(problems: int, samples: int) -> None:
    hits, kept = covered(problems, samples, 3000 if problems == 30 else 500)
    assert 0.94 <= hits <= 0.965
    assert 0.94 <= kept <= 0.97  # few single verdicts are discrete, so the paired test rejects less often


def test_a_p_value_by_hand() -> None:
    before, after = [[0.0]] * 4, [[1.0], [1.0], [1.0], [0.0]]
    assert paired_p(before, after) == pytest.approx(2 * 0.0288, abs=1e-4)  # t = 3 with 3 degrees of freedom
    assert paired_p(after, after) == 1.0
    assert paired_p([[0.0]], [[1.0]]) == 1.0
    assert paired_p([[0.0]] * 5, [[1.0]] * 5) == pytest.approx(0.5**5)
