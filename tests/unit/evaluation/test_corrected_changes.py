"""Differences corrected for the verifier's errors: by hand, by simulation, and with other errors on each side."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from src.evaluation.corrected_changes import corrected_change, corrected_gap, gap_p, true_score
from src.evaluation.measuring import VerifierError
from src.evaluation.statistics import Z95, Interval, paired_difference, paired_p

ERROR = VerifierError(accepted=10, wrong=100, rejected=20, right=100)  # sensitivity 0.8, specificity 0.9


def test_the_estimate_is_divided_by_the_verifiers_power() -> None:
    found = corrected_change(Interval(0.14, 0.10, 0.18), ERROR)
    assert found.estimate == pytest.approx(0.14 / 0.7)
    assert found.low < 0.1 / 0.7
    assert found.high > 0.18 / 0.7
    back = corrected_change(Interval(-0.14, -0.18, -0.10), ERROR)
    assert (back.estimate, back.low, back.high) == pytest.approx((-found.estimate, -found.high, -found.low))


def test_a_verifier_without_errors_changes_nothing() -> None:
    many = corrected_change(Interval(0.14, 0.10, 0.18), VerifierError(0, 10**7, 0, 10**7))
    assert (many.estimate, many.low, many.high) == pytest.approx((0.14, 0.10, 0.18), abs=1e-4)


@pytest.mark.parametrize("low", [-1e-3, 1e-3])
def test_the_interval_contains_no_difference_exactly_if_the_measured_one_does(low: float) -> None:
    assert (corrected_change(Interval(0.05, low, 0.1 - low), ERROR).low > 0) == (low > 0)


def test_too_few_labelled_answers_say_nothing() -> None:
    found = corrected_change(Interval(0.05, 0.03, 0.07), VerifierError(1, 3, 1, 3))
    assert (found.low, found.high) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="as often as right ones"):
        corrected_change(Interval(0.05, 0.03, 0.07), VerifierError(90, 100, 50, 100))


Sides = tuple[list[list[float]], list[list[float]]]


def judged(
    rng: np.random.Generator, problems: int, levels: tuple[float, float], rates: list[tuple[float, float]]
) -> Sides:
    """Verdicts of two sides with these true accuracies, by verifiers with these sensitivities and specificities; half
    of the problems are as hard for both sides."""
    hard = rng.random(problems)
    other = np.where(rng.random(problems) < 0.5, hard, rng.random(problems))

    def verdicts(right: NDArray[np.bool_], accepts: float, refuses: float) -> list[list[float]]:
        draws = rng.random(problems)
        return np.where(right, draws < accepts, draws >= refuses).astype(float)[:, None].tolist()  # type: ignore[no-any-return]

    return verdicts(hard < levels[0], *rates[0]), verdicts(other < levels[1], *rates[1])


def counted(rng: np.random.Generator, labels: int, accepts: float, refuses: float) -> VerifierError:
    return VerifierError(int(rng.binomial(labels, 1 - refuses)), labels, int(rng.binomial(labels, 1 - accepts)), labels)


def test_verdicts_alone_shrink_the_difference_and_corrected_intervals_cover_it() -> None:
    """The measured mean is 14 points where 20 are true, and its interval covers 20 in less than half of repetitions."""
    rng, raw, covered, means, times = np.random.default_rng(0), 0, 0, [], 600
    for _ in range(times):
        measured = paired_difference(*judged(rng, 500, (0.3, 0.5), [(0.8, 0.9)] * 2))
        found = corrected_change(measured, counted(rng, 100, 0.8, 0.9))
        raw += measured.low <= 0.2 <= measured.high
        covered += found.low <= 0.2 <= found.high
        means.append((measured.estimate, found.estimate))
    assert np.mean(means, axis=0) == pytest.approx([0.14, 0.2], abs=0.005)
    assert raw / times < 0.5
    assert 0.93 <= covered / times <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("labels", [60, 300])
@pytest.mark.parametrize("problems", [30, 100, 500])
def test_corrected_intervals_cover_the_truth(problems: int, labels: int) -> None:
    rng, covered, times = np.random.default_rng(problems + labels), 0, 0
    settings = [
        ((0.3, 0.5), (0.8, 0.9)),
        ((0.3, 0.3), (0.8, 0.9)),
        ((0.2, 0.7), (0.95, 0.99)),
        ((0.6, 0.3), (0.7, 0.8)),
    ]
    for levels, rates in settings:
        for _ in range(1500):
            measured = paired_difference(*judged(rng, problems, levels, [rates, rates]))
            found = corrected_change(measured, counted(rng, labels, *rates))
            covered += found.low <= levels[1] - levels[0] <= found.high
            times += 1
    assert 0.94 <= covered / times <= 0.965


@pytest.mark.slow
@pytest.mark.parametrize("levels", [(0.3, 0.5), (0.4, 0.4)])
def test_sides_with_errors_of_their_own_are_compared_by_true_scores(levels: tuple[float, float]) -> None:
    """Where both are as accurate, the verdicts differ by 11 points; equality is rejected in 5 % of repetitions."""
    rng, covered, rejected, times = np.random.default_rng(3), 0, 0, 3000
    rates = [(0.95, 0.95), (0.8, 0.9)]
    for _ in range(times):
        errors = counted(rng, 100, *rates[0]), counted(rng, 100, *rates[1])
        sides = judged(rng, 300, levels, rates)
        scores = [
            [[true_score(mark, error) for mark in row] for row in side]
            for side, error in zip(sides, errors, strict=True)
        ]
        measured, p = paired_difference(*scores), paired_p(*scores)
        means = float(np.mean(scores[0])), float(np.mean(scores[1]))
        found = corrected_gap(measured, means, errors)
        covered += found.low <= levels[1] - levels[0] <= found.high
        rejected += gap_p(measured, p, means, errors) < 0.05
    assert 0.94 <= covered / times <= 0.965
    assert levels[0] != levels[1] or 0.035 <= rejected / times <= 0.06


@pytest.mark.parametrize("width", [0.01, 0.05, 0.09])
def test_p_and_interval_of_a_gap_agree(width: float) -> None:
    errors, levels = (ERROR, VerifierError(0, 100, 0, 100)), (0.4, 0.5)
    measured = Interval(0.1, 0.1 - width, 0.1 + width)
    p = 2 * stats.norm.sf(Z95 * 0.1 / width)
    found = corrected_gap(measured, levels, errors)
    assert found.high - found.low > 2 * width
    assert gap_p(measured, p, levels, errors) > p
    assert (gap_p(measured, p, levels, errors) < 0.05) == (found.low > 0)


def test_p_of_a_gap_without_a_difference_or_without_spread() -> None:
    errors, levels = (ERROR, ERROR), (0.4, 0.5)
    assert gap_p(Interval(0.0, -0.1, 0.1), 1.0, levels, errors) == 1.0
    assert gap_p(Interval(0.1, 0.1, 0.1), 0.0, levels, errors) > 0
