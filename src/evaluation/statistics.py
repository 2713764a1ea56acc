"""Statistics of an evaluation: accuracy with intervals, pass@k, majority votes, paired differences. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    def disjoint(self, other: Interval) -> bool:
        """Whether the two intervals share no point."""
        return self.high < other.low or other.high < self.low


def wilson(rate: float, trials: float) -> Interval:
    """Wilson's 95 % score interval of a proportion (J. Am. Stat. Assoc. 22, 1927); ``trials`` may be an effective
    size."""
    square = Z95 * Z95
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = Z95 / (1 + square / trials) * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    return Interval(rate, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def accuracy(correct: Sequence[Sequence[float]]) -> Interval:
    """Mean correctness over problems (rows) and their samples, with an interval that is clustered by problem.

    Samples of one problem are not independent: Wilson's interval is taken at the effective size p(1-p)/Var(mean),
    where the variance of the mean is estimated from the problems' own means (cluster-robust, Kish's design effect).
    With one sample a problem this is Wilson's interval at the number of problems.
    """
    problems = len(correct)
    samples = sum(len(row) for row in correct)
    means = [statistics.fmean(row) for row in correct]
    rate = statistics.fmean(means)
    if samples == problems or problems < 2:
        return wilson(rate, problems)
    variance = statistics.variance(means) / problems
    if rate in (0.0, 1.0):  # nothing varies to estimate from: be as careful as with one sample a problem
        return wilson(rate, problems)
    effective = rate * (1 - rate) / variance if variance > 0 else samples
    return wilson(rate, min(max(effective, problems), samples))


def pass_at_k(correct: Sequence[Sequence[float]], k: int) -> float:
    """Chance that one of k samples is right, unbiased: 1 - C(n-c, k)/C(n, k) (arXiv 2107.03374); samples
    independent."""
    chances = []
    for row in correct:
        n, c = len(row), sum(value >= 1 for value in row)
        chances.append(1 - math.comb(n - c, k) / math.comb(n, k))
    return statistics.fmean(chances)


def majority(answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[float]]) -> float:
    """Accuracy of each problem's most frequent stated answer (self-consistency, arXiv 2203.11171); ties share the vote.

    Nothing stated is no vote; a problem without any is wrong.
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
    """Change in mean correctness on the same problems, with a 95 % interval from the problems' own differences.

    If all n differences are equal, the data bound how many other problems may differ: with confidence 95 % their share
    is at most 1 - 0.05^(1/n) (Clopper-Pearson for 0 of n), and each may differ by as much as possible. One problem says
    nothing of the others: its interval is [-1, 1].
    """
    changes = [statistics.fmean(b) - statistics.fmean(a) for a, b in zip(before, after, strict=True)]
    change = statistics.fmean(changes)
    if len(changes) == 1:
        return Interval(change, -1.0, 1.0)
    if min(changes) == max(changes):
        share = 1 - 0.05 ** (1 / len(changes))
        return Interval(change, change - share * (1 + change), change + share * (1 - change))
    half = Z95 * statistics.stdev(changes) / math.sqrt(len(changes))
    return Interval(change, max(-1.0, change - half), min(1.0, change + half))
