"""Multiple testing: Holm's adjusted p-values, and a simultaneous 95 % band for a validation curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import optimize, stats

from src.evaluation.statistics import Interval

LEVEL = 0.05


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of several tests, in their order (Scand. J. Stat. 6, 1979).

    Rejecting where the adjusted value is at most 5 % makes a false rejection among all tests in at most 5 % of cases,
    whatever the dependence between the tests.
    """
    ordered = sorted(range(len(values)), key=lambda index: values[index])
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(ordered):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


def look_level(look: int) -> float:
    """Share of the error of 5 % that look number ``look`` (from 1) may spend; the shares of all looks add up to 5 %."""
    return LEVEL / (look * (look + 1))


def band(correct: Sequence[float], look: int) -> Interval:
    """One look's interval of a simultaneous 95 % band for a mean of verdicts (0 to 1): all intervals hold at once.

    The number of looks need not be known beforehand, and training may stop at any look (alpha spending, Lan & DeMets,
    Biometrika 70, 1983, with a union bound, so that looks at the same problems may depend on each other). Verdicts of 0
    and 1 have the exact interval of Clopper & Pearson (Biometrika 26, 1934), others the one of Chernoff's bound
    (Hoeffding, J. Am. Stat. Assoc. 58, 1963, theorem 1). Verdicts of one look are on different problems.
    """
    count, total = len(correct), math.fsum(correct)
    rate, level = total / count, look_level(look)
    if all(value in (0, 1) for value in correct):
        return clopper_pearson(round(total), count, level)
    allowed = math.log(2 / level) / count

    def excess(other: float) -> float:
        return _divergence(rate, other) - allowed

    low = 0.0 if rate == 0 or excess(1e-12) < 0 else optimize.brentq(excess, 1e-12, rate)
    high = 1.0 if rate == 1 or excess(1 - 1e-12) < 0 else optimize.brentq(excess, rate, 1 - 1e-12)
    return Interval(rate, float(low), float(high))


def clopper_pearson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """The exact interval of a proportion with an error of at most ``level``."""
    low = float(stats.beta.ppf(level / 2, successes, trials - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1 - level / 2, successes + 1, trials - successes)) if successes < trials else 1.0
    return Interval(successes / trials, low, high)


def _divergence(rate: float, other: float) -> float:
    """Kullback-Leibler divergence between two coins, in nats; ``other`` is inside (0, 1)."""
    heads = rate * math.log(rate / other) if rate > 0 else 0.0
    tails = (1 - rate) * math.log((1 - rate) / (1 - other)) if rate < 1 else 0.0
    return heads + tails
