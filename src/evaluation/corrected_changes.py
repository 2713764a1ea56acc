"""Differences in accuracy, corrected for the errors of the verifier that judged both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from src.evaluation.measuring import VerifierError
from src.evaluation.statistics import Z95, Interval


def seen_rates(error: VerifierError) -> tuple[float, float]:
    """Sensitivity and specificity as counted; with one answer added to each count where these say nothing."""
    accepts, refuses = error.counted_rates()
    return (accepts, refuses) if accepts + refuses > 1 else error.rates()


def true_score(verdict: float, error: VerifierError) -> float:
    """An unbiased score of an answer from its verdict (Rogan & Gladen, Am. J. Epidemiol. 107, 1978)."""
    accepts, refuses = seen_rates(error)
    return (verdict + refuses - 1) / (accepts + refuses - 1)


def corrected_change(measured: Interval, error: VerifierError) -> Interval:
    """The true difference behind a measured one, with a 95 % interval that also covers the verifier's error rates.

    One verifier judged both sides, so that the difference is divided by sensitivity + specificity - 1 (Rogan & Gladen,
    1978). The interval is that of a ratio (Fieller, J. R. Stat. Soc. B 16, 1954), with the rates and variances of
    ``corrected``: all D with (d - D J)^2 <= half^2 + D^2 z^2 Var(J). It contains 0 exactly if the measured interval
    does. The delta method, which puts the estimate in place of D on the right side, covers up to 97 % in simulations.

    Raises:
        ValueError: the verifier accepts wrong answers as often as right ones, so its verdicts say nothing.
    """
    power, variance, difference = sum(error.rates()) - 1, sum(error.spreads()), measured.estimate
    estimate = min(1.0, max(-1.0, difference / (sum(seen_rates(error)) - 1)))
    uncertain = Z95**2 * variance
    room = power**2 - uncertain
    if room <= 0:  # too few labelled answers to tell the verifier from a useless one
        return Interval(estimate, -1.0, 1.0)

    def bound(half: float, sign: int) -> float:
        inside = half**2 * room + difference**2 * uncertain
        return (difference * power + sign * math.sqrt(inside)) / room

    low, high = bound(difference - measured.low, -1), bound(measured.high - difference, 1)
    return Interval(estimate, max(-1.0, min(low, estimate)), min(1.0, max(high, estimate)))


def corrected_gap(
    measured: Interval, levels: tuple[float, float], errors: tuple[VerifierError, VerifierError]
) -> Interval:
    """A difference of two sides that are each corrected for errors of their own, with its 95 % interval.

    ``measured`` is the difference of true scores (``true_score``) with its interval over problems and seeds, ``levels``
    are the mean scores of both sides. The variances of the four rates are added by the delta method, as in
    ``corrected``. Both sets of labelled answers count as independent.
    """
    error = _rates_half(levels, errors)
    low = measured.estimate - math.hypot(measured.estimate - measured.low, error)
    high = measured.estimate + math.hypot(measured.high - measured.estimate, error)
    return Interval(min(1.0, max(-1.0, measured.estimate)), max(-1.0, low), min(1.0, high))


def gap_p(
    measured: Interval, p: float, levels: tuple[float, float], errors: tuple[VerifierError, VerifierError]
) -> float:
    """The p-value of no difference for ``corrected_gap``; ``p`` is that of ``measured`` without the rates' errors."""
    if measured.estimate == 0 or p >= 1:
        return 1.0
    deviate = float(stats.norm.isf(p / 2)) if p > 0 else math.inf
    own = abs(measured.estimate) / deviate
    total = math.hypot(own, _rates_half(levels, errors) / Z95)
    return float(2 * stats.norm.sf(abs(measured.estimate) / total)) if total > 0 else 0.0


def _rates_half(levels: Sequence[float], errors: Sequence[VerifierError]) -> float:
    """Half the width of a 95 % interval that comes from the rates of two verifiers."""
    total = 0.0
    for level, error in zip(levels, errors, strict=True):
        true, (right, wrong) = min(1.0, max(0.0, level)), error.spreads()
        total += (true**2 * right + (1 - true) ** 2 * wrong) / (sum(error.rates()) - 1) ** 2
    return Z95 * math.sqrt(total)
