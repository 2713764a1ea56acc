"""Intervals over seeds, problems and samples at once: by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from src.evaluation.joint import (
    Components,
    components,
    detectable,
    detectable_over_problems,
    joint_difference,
    joint_interval,
    joint_p,
    paired_components,
    power,
)

Scores = NDArray[np.float64]


def drawn(rng: np.random.Generator, shape: tuple[int, int, int], found: Components, mean: float = 0.0) -> Scores:
    """Scores of the additive model with normal effects."""
    seeds, problems, _ = shape
    return (
        mean
        + math.sqrt(found.seed) * rng.normal(size=(seeds, 1, 1))
        + math.sqrt(found.problem) * rng.normal(size=(1, problems, 1))
        + math.sqrt(found.both) * rng.normal(size=(seeds, problems, 1))
        + math.sqrt(found.sampling) * rng.normal(size=shape)
    )


def answered(
    rng: np.random.Generator, shape: tuple[int, int, int], spread: tuple[float, float], level: float
) -> Scores:
    """Verdicts 0 and 1 whose log-odds have effects of seeds and problems."""
    seeds, problems, _ = shape
    odds = level + spread[0] * rng.normal(size=(seeds, 1)) + spread[1] * rng.normal(size=(1, problems))
    odds = odds + 0.4 * rng.normal(size=(seeds, problems))
    return (rng.random(shape) < (1 / (1 + np.exp(-odds)))[:, :, None]).astype(float)


def test_the_components_by_hand() -> None:
    scores = [[[0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]]
    # cells .5 1 / 0 .5; rows .75 .25; columns .25 .75; mean .5; no interaction; within: .5 0 0 .5
    found = components(scores)
    assert (found.seed, found.problem, found.both, found.sampling) == pytest.approx((0.125, 0.125, 0.0, 0.25))
    assert found.variance(2, 2, 2) == pytest.approx(0.125 / 2 + 0.125 / 2 + 0.25 / 8)


def test_the_components_are_unbiased() -> None:
    rng, true = np.random.default_rng(0), Components(0.5, 1.0, 0.3, 2.0)
    found = [components(drawn(rng, (4, 12, 3), true)) for _ in range(800)]
    for name in ("seed", "problem", "both", "sampling"):
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(getattr(true, name), rel=0.15)


def test_an_interval_by_hand() -> None:
    scores = np.array([[[0.0], [1.0], [1.0]], [[0.0], [0.0], [1.0]]])
    # rows 2/3 1/3; columns 0 .5 1; mean .5; MS: seeds 1/6, problems .5, both 1/6
    found = joint_interval(scores)
    half = math.sqrt(12.706204736432095**2 * (1 / 6) / 6 + 4.302652729749464**2 * (1 / 3) / 6)
    assert (found.estimate, found.low, found.high) == (0.5, 0.0, 1.0)
    wide = joint_interval(scores, -9.0, 9.0)
    assert wide.high - 0.5 == pytest.approx(half)
    assert 0.5 - wide.low == pytest.approx(half)


def test_differences_are_paired_by_seed_and_problem() -> None:
    rng = np.random.default_rng(1)
    before = drawn(rng, (3, 50, 2), Components(0.01, 0.2, 0.0, 0.01))
    found = joint_difference(before, before + 0.1)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match="cannot be paired"):
        joint_difference(before, before[:, :40])
    with pytest.raises(ValueError, match="2 or more seeds"):
        joint_interval(before[:1])


def test_the_p_value_is_that_of_the_interval() -> None:
    rng = np.random.default_rng(6)
    for effect in (0.0, 0.05, 0.2):
        for _ in range(20):
            before, after = (drawn(rng, (3, 30, 2), Components(0.002, 0.1, 0.0, 0.1), effect * n) for n in (0, 1))
            found = joint_difference(before, after)
            assert (joint_p(before, after) > 0.05) == (found.low <= 0 <= found.high)
    same = drawn(rng, (2, 5, 1), Components(0.1, 0.1, 0.0, 0.1))
    assert joint_p(same, same) == 1.0
    assert joint_p(same, same + 1) == 0.0


def test_a_change_that_is_0_up_to_rounding_is_none() -> None:
    """Means of three samples are no binary fractions, so that a sum of them is seldom 0 exactly."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        before = rng.integers(0, 2, size=(3, 30, 3)).astype(float)
        after = before[:, rng.permutation(30)]  # as many right answers, for other problems
        assert joint_p(before, after) == pytest.approx(1.0)


def test_samples_are_told_from_seeds_and_problems_in_differences() -> None:
    rng, true = np.random.default_rng(2), Components(0.1, 0.2, 0.3, 0.5)
    found = [
        paired_components(drawn(rng, (4, 40, 3), true), drawn(rng, (4, 40, 3), true, mean=0.5)) for _ in range(200)
    ]
    for name in ("seed", "problem", "both", "sampling"):  # of two independent runs: twice each
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(2 * getattr(true, name), rel=0.12)


def test_what_can_be_detected_does_not_depend_on_the_order_of_a_pair_with_different_samples() -> None:
    rng, true = np.random.default_rng(7), Components(0.01, 0.1, 0.0, 0.5)
    few, many = drawn(rng, (3, 40, 4), true), drawn(rng, (3, 40, 8), true, mean=0.3)
    one, other = paired_components(few, many), paired_components(many, few)
    noise = [float(scores.var(axis=2, ddof=1).mean()) for scores in (few, many)]
    assert one.sampling / 4 == pytest.approx(noise[0] / 4 + noise[1] / 8)
    assert detectable(one, 3, 40, 4) == pytest.approx(detectable(other, 3, 40, 8))


SETTINGS = [(0.1, 1.5, 0.0), (0.3, 1.5, 0.0), (0.05, 2.5, -1.0), (0.3, 1.0, 1.5)]


def covered(shape: tuple[int, int, int], times: int) -> list[float]:
    """The share of intervals that hold the true mean, for each of ``SETTINGS``."""
    shares = []
    for seed_spread, problem_spread, level in SETTINGS:
        rng = np.random.default_rng(3)
        odds = level + np.sqrt(seed_spread**2 + problem_spread**2 + 0.4**2) * rng.normal(size=400_000)
        truth = float((1 / (1 + np.exp(-odds))).mean())
        hits = 0
        for _ in range(times):
            found = joint_interval(answered(rng, shape, (seed_spread, problem_spread), level))
            hits += found.low <= truth <= found.high
        shares.append(hits / times)
    return shares


@pytest.mark.parametrize("shape", [(2, 200, 4), (3, 30, 2), (5, 30, 2)])
def test_intervals_cover_the_truth_as_often_as_they_say(shape: tuple[int, int, int]) -> None:
    shares = covered(shape, 600)
    assert 0.95 <= np.mean(shares) <= 0.985, shares
    assert min(shares) >= 0.93, shares


LONG = [(2, 30, 2), (2, 200, 4), (2, 500, 2), (3, 30, 2), (5, 30, 2), (3, 500, 2), (5, 500, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("shape", LONG)
def test_coverage_in_long(shape: tuple[int, int, int]) -> None:
    shares = covered(shape, 3000)
    print("coverage", shape, shares)
    assert 0.95 <= np.mean(shares) <= (0.985 if shape[0] == 2 else 0.975), shares
    assert all(0.94 <= share <= 0.995 for share in shares), shares


@pytest.mark.slow
@pytest.mark.parametrize("shape", LONG)
def test_a_comparison_of_equals_is_significant_as_often_as_it_may(shape: tuple[int, int, int]) -> None:
    found = []
    for seed_spread, problem_spread, level in SETTINGS:
        rng = np.random.default_rng(4)
        wrong = 0
        for _ in range(1500):
            seeds, problems, _ = shape
            shared = problem_spread * rng.normal(size=(1, problems))  # both methods answer the same problems
            runs = []
            for _ in range(2):
                odds = level + seed_spread * rng.normal(size=(seeds, 1)) + shared + 0.4 * rng.normal(size=shape[:2])
                runs.append((rng.random(shape) < (1 / (1 + np.exp(-odds)))[:, :, None]).astype(float))
            interval = joint_difference(*runs)
            wrong += not interval.low <= 0 <= interval.high
        found.append(wrong / 1500)
    print("significant", shape, found)
    assert (0.01 if shape[0] == 2 else 0.03) <= np.mean(found) <= 0.055, found
    assert max(found) <= 0.065, found


@pytest.mark.parametrize(("seeds", "problems", "samples"), [(3, 60, 2), (5, 200, 1)])
def test_the_power_is_right_in_simulation(seeds: int, problems: int, samples: int) -> None:
    rng, true = np.random.default_rng(5), Components(0.0004, 0.02, 0.01, 0.2)
    effect = detectable(true, seeds, problems, samples)
    hits = 0
    for _ in range(1500):
        change = drawn(rng, (seeds, problems, samples), true, effect)
        found = joint_difference(np.zeros_like(change), change)
        hits += not found.low <= 0 <= found.high
    assert hits / 1500 == pytest.approx(0.8, abs=0.04)


def test_the_detectable_difference_over_problems_is_right_in_simulation() -> None:
    rng, changes = np.random.default_rng(8), [-1.0, 0.0, 0.0, 0.5, 1.0, 0.0, 0.25, 0.0, -0.5, 1.0, 0.0, 0.0]
    smallest = detectable_over_problems(changes)
    assert smallest is not None
    rows = smallest + np.std(changes, ddof=1) * rng.normal(size=(20_000, len(changes)))
    t = rows.mean(axis=1) / rows.std(axis=1, ddof=1) * math.sqrt(len(changes))
    assert float((abs(t) > 2.200985).mean()) == pytest.approx(0.8, abs=0.01)
    assert detectable_over_problems([-1.0, 1.0]) == math.inf
    assert detectable_over_problems([0.5]) is None
    assert detectable_over_problems([0.1 + 0.2, 0.3, 0.3]) is None


def test_the_limit_of_the_variance_between_seeds_holds_in_four_of_five_cases() -> None:
    rng, true = np.random.default_rng(9), Components(0.01, 0.05, 0.02, 0.1)
    for seeds in (2, 3, 5):
        below = [true.seed <= components(drawn(rng, (seeds, 100, 2), true)).seed_limit for _ in range(1500)]
        assert np.mean(below) == pytest.approx(0.8, abs=0.03)


def test_what_can_be_detected() -> None:
    small, large = Components(0.0, 0.01, 0.0, 0.1), Components(0.01, 0.01, 0.0, 0.1)
    assert detectable(small, 3, 500, 2) < detectable(large, 3, 500, 2)
    assert detectable(large, 10, 500, 2) < detectable(large, 3, 500, 2)
    assert power(large, 0.0, 5, 500, 2) == pytest.approx(0.05, abs=0.02)
    assert power(large, detectable(large, 5, 500, 2), 5, 500, 2) == pytest.approx(0.8)
    assert detectable(Components(9.0, 0.0, 0.0, 0.0), 2, 30, 1) == math.inf
    assert power(Components(0.0, 0.0, 0.0, 0.0), 0.1, 3, 30, 1) == 1.0
