"""Evaluation statistics: accuracy with confidence intervals, pass@k, majority vote, paired differences."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


FEW = 300
"""Number of problems below which intervals allow for an uncertain estimate of their own variance."""

ROUNDING = 1e-12
"""Differences of verdicts below it are rounding errors. Real ones are at least one verdict among all answers."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def empty(self) -> bool:
        """Whether the interval has no width up to rounding: the data show no spread, which is no certainty."""
        return self.high - self.low < ROUNDING

    def disjoint(self, other: Interval) -> bool:
        """Whether the two intervals share no point."""
        return self.high < other.low or other.high < self.low


def wilson(rate: float, trials: float) -> Interval:
    """Wilson's 95 % score interval of a proportion (J. Am. Stat. Assoc. 22, 1927).

    ``trials`` may be an effective sample size, not only an integer.
    """
    square = Z95 * Z95
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = Z95 / (1 + square / trials) * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    return Interval(rate, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def accuracy(correct: Sequence[Sequence[float]]) -> Interval:
    """Mean correctness of ``correct[problem][sample]`` with a 95 % interval clustered by problem.

    Samples of one problem are not independent. The interval is Wilson's at the effective sample size
    p(1-p)/Var(mean), where Var(mean) is estimated from the means of the problems (cluster-robust; Kish's design
    effect). With one sample per problem, the effective size is the number of problems. Below ``FEW`` problems,
    Var(mean) is uncertain itself, so the size is multiplied by (z/t)^2 with t of problems - 1 degrees of freedom (Korn
    & Graubard, Surv. Methodol. 24, 1998); without this, 30 problems with four samples cover 93.7 % in simulations.
    """
    problems = len(correct)
    samples = sum(len(row) for row in correct)
    means = [statistics.fmean(row) for row in correct]
    rate = statistics.fmean(means)
    if samples == problems or problems < 2:
        return wilson(rate, problems)
    return _clustered(rate, statistics.variance(means) / problems, problems, samples)


def ratio(counts: Sequence[tuple[int, int]]) -> Interval | None:
    """Pooled proportion of ``(successes, trials)`` of each problem, with a 95 % interval clustered by problem.

    Problems without trials do not count; without any trial, the proportion is undefined (``None``). The interval is
    that of ``accuracy``, with the variance of a ratio of two sums (Cochran, *Sampling Techniques*, 1977, chapter 6). If
    all problems have equally many trials, the two are equal.
    """
    counts = [(successes, trials) for successes, trials in counts if trials]
    if not counts:
        return None
    problems, total = len(counts), sum(trials for _, trials in counts)
    rate = sum(successes for successes, _ in counts) / total
    independent = total**2 / sum(trials**2 for _, trials in counts)  # Kish's number of problems of equal size
    if total == problems or problems < 2:
        return wilson(rate, independent)
    squares = sum((successes - rate * trials) ** 2 for successes, trials in counts)
    return _clustered(rate, squares * problems / (problems - 1) / total**2, independent, total)


def _clustered(rate: float, variance: float, problems: float, samples: int) -> Interval:
    """Wilson's interval of a rate with this variance, at an effective size from ``problems`` to ``samples``."""
    if rate in (0.0, 1.0):  # no variance to estimate from: count one sample per problem
        return wilson(rate, problems)
    effective = rate * (1 - rate) / variance if variance > 0 else samples
    if problems < FEW:
        effective *= (Z95 / t_quantile(problems)) ** 2
    return wilson(rate, min(max(effective, problems), samples))


def pass_at_k(correct: Sequence[Sequence[float]], k: int) -> float:
    """Unbiased estimate of the chance that at least one of k independent samples is correct, averaged over problems.

    1 - C(n-c, k)/C(n, k) for c correct ones of n samples (arXiv 2107.03374). Partly correct samples count as wrong.
    """
    chances = []
    for row in correct:
        n, c = len(row), sum(value >= 1 for value in row)
        chances.append(1 - math.comb(n - c, k) / math.comb(n, k))
    return statistics.fmean(chances)


def majority(answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[float]]) -> float:
    """Accuracy of the most frequent stated answer per problem (self-consistency, arXiv 2203.11171).

    With a tie, the accuracy is the share of winners that are correct. Samples without a stated answer do not vote; a
    problem without votes counts as wrong.
    """
    total = 0.0
    for row, verdicts in zip(answers, correct, strict=True):
        votes = Counter(answer for answer in row if answer is not None)
        if votes:
            top = max(votes.values())
            winners = {answer for answer, count in votes.items() if count == top}
            right = {answer for answer, verdict in zip(row, verdicts, strict=True) if verdict >= 1}
            total += len(winners & right) / len(winners)
    return total / len(answers)


def paired_difference(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Interval:
    """Change in mean correctness on the same problems, with a 95 % interval from per-problem differences.

    The interval is Student's t (Biometrika 6, 1908) over the differences: 1.96 standard errors are too few for 30
    problems (arXiv 2503.01747). If all differences are equal, ``equal_differences`` gives the interval. With one
    problem the interval is [-1, 1].
    """
    changes = [statistics.fmean(b) - statistics.fmean(a) for a, b in zip(before, after, strict=True)]
    change = statistics.fmean(changes)
    if len(changes) == 1:
        return Interval(change, -1.0, 1.0)
    if max(changes) - min(changes) < ROUNDING:
        return equal_differences(change, len(changes))
    half = t_quantile(len(changes)) * statistics.stdev(changes) / math.sqrt(len(changes))
    return Interval(change, max(-1.0, change - half), min(1.0, change + half))


def paired_p(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float:
    """The p-value of no change: the smallest error at which ``paired_difference`` would exclude 0."""
    changes = [statistics.fmean(b) - statistics.fmean(a) for a, b in zip(before, after, strict=True)]
    change = statistics.fmean(changes)
    if len(changes) == 1 or abs(change) < ROUNDING:
        return 1.0
    if max(changes) - min(changes) < ROUNDING:
        return float((1 / (1 + abs(change))) ** len(changes))
    error = statistics.stdev(changes) / math.sqrt(len(changes))
    return float(2 * stats.t.sf(abs(change) / error, len(changes) - 1))


def t_quantile(count: float) -> float:
    """The 97.5 % quantile of Student's t for a mean of ``count`` values."""
    return float(stats.t.ppf(0.975, count - 1))


def equal_differences(change: float, problems: int) -> Interval:
    """The 95 % interval of a mean difference when all observed problems have the same difference.

    At most a share 1 - 0.05^(1/n) of all problems differs from the n observed ones (Clopper-Pearson for 0 of n), each
    by as much as possible.
    """
    share = 1 - 0.05 ** (1 / problems)
    return Interval(change, change - share * (1 + change), change + share * (1 - change))
