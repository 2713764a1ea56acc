"""Errors of measurement: of the verifier, from labelled answers, and of the layout of batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from src.evaluation.statistics import Z95, Interval, accuracy


@dataclass(frozen=True)
class VerifierError:
    """A verifier's errors on labelled answers: wrong ones that it accepted, and right ones that it rejected."""

    accepted: int
    wrong: int
    rejected: int
    right: int

    @classmethod
    def counted(cls, labels: Sequence[float], verdicts: Sequence[float]) -> VerifierError:
        """Count the errors of verdicts on answers with the given labels (1 right, 0 wrong); a verdict of 1 accepts.

        Raises:
            ValueError: the labels do not hold both right and wrong answers.
        """
        pairs = list(zip(labels, verdicts, strict=True))
        wrong = [verdict for label, verdict in pairs if label < 1]
        right = [verdict for label, verdict in pairs if label >= 1]
        if not wrong or not right:
            raise ValueError(f"{len(right)} right and {len(wrong)} wrong labelled answers; both kinds are needed")
        return cls(sum(one >= 1 for one in wrong), len(wrong), sum(one < 1 for one in right), len(right))

    def rates(self) -> tuple[float, float]:
        """The shares of right answers that the verifier accepts, and of wrong ones that it refuses, with one accepted
        and one refused answer added to each count (Lang & Reiczigel, Prev. Vet. Med. 113, 2014).

        Raises:
            ValueError: the verifier accepts wrong answers as often as right ones, so its verdicts say nothing.
        """
        accepts = (self.right - self.rejected + 1) / (self.right + 2)
        refuses = (self.wrong - self.accepted + 1) / (self.wrong + 2)
        if accepts + refuses <= 1:
            raise ValueError(
                "the verifier accepts wrong answers as often as right ones, so that nothing can be corrected"
            )
        return accepts, refuses

    def spreads(self) -> tuple[float, float]:
        """The variances of the two ``rates``."""
        accepts, refuses = self.rates()
        return accepts * (1 - accepts) / (self.right + 2), refuses * (1 - refuses) / (self.wrong + 2)

    def counted_rates(self) -> tuple[float, float]:
        """The two ``rates`` as counted, without added answers."""
        return 1 - self.rejected / self.right, 1 - self.accepted / self.wrong


def corrected(measured: Interval, error: VerifierError) -> Interval:
    """The true accuracy behind a measured one, with a 95 % interval that also covers the verifier's error rates.

    The estimate of Rogan & Gladen (Am. J. Epidemiol. 107, 1978) with the interval of Lang & Reiczigel (Prev. Vet. Med.
    113, 2014). The number of answers that the measured accuracy rests on follows from its interval.

    Raises:
        ValueError: the verifier accepts wrong answers as often as right ones, so its verdicts say nothing.
    """
    accepts, refuses = error.rates()
    power = accepts + refuses - 1
    count, square = effective(measured), Z95 * Z95
    seen = (count * measured.estimate + square / 2) / (count + square)
    true = min(1.0, max(0.0, (seen + refuses - 1) / power))
    spread_right, spread_wrong = error.spreads()
    shift = 2 * square * (true * spread_right - (1 - true) * spread_wrong)
    variance = seen * (1 - seen) / (count + square) + true**2 * spread_right + (1 - true) ** 2 * spread_wrong
    half = Z95 * math.sqrt(variance) / power
    raw_accepts, raw_refuses = error.counted_rates()
    raw = raw_accepts + raw_refuses - 1
    estimate = (measured.estimate + raw_refuses - 1) / raw if raw > 0 else true
    estimate = min(1.0, max(0.0, estimate))
    low, high = max(0.0, true + shift - half), min(1.0, true + shift + half)
    return Interval(estimate, min(low, estimate), max(high, estimate))


def effective(measured: Interval) -> float:
    """The number of independent answers that Wilson's interval of a rate rests on.

    Wilson's bounds solve z^2 q (1 - q) = n (rate - q)^2; the farther bound gives n.
    """
    rate = measured.estimate
    bound = measured.low if rate - measured.low > measured.high - rate else measured.high
    return Z95**2 * bound * (1 - bound) / (rate - bound) ** 2


def flips(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Interval:
    """Share of verdicts, ``[problems][samples]``, that differ between two evaluations of the same weights.

    The interval is clustered by problem. Its upper end is the measurement floor: a smaller effect may come from the
    layout of batches, or the engine, alone.
    """
    return accuracy([[float(a != b) for a, b in zip(*rows, strict=True)] for rows in zip(first, second, strict=True)])


def second_layout(problems: int, most: int, first: int) -> int:
    """The number of problems at once, at most ``most``, of a second evaluation whose batches differ from the first's.

    The first answers ``first`` problems at once. The second takes at most half as many, since 255 and 256 at once are
    almost the same batches. Of such numbers, it is the largest with which the fewest problems keep their batch.
    """

    def shared(at_once: int) -> int:
        ends = {(start, min(start + first, problems)) for start in range(0, problems, first)}
        same = ends & {(start, min(start + at_once, problems)) for start in range(0, problems, at_once)}
        return sum(end - start for start, end in same)

    half = -(-min(problems, first) // 2)
    return min(range(min(most, half), 0, -1), key=shared)
