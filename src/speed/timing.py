"""Times of ways to do the same thing, run in turns, and how many times as fast one is as another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from src.evaluation.statistics import Interval


@dataclass(frozen=True)
class Timed:
    """Seconds and tokens of each repeat of one way."""

    seconds: Sequence[float]
    tokens: Sequence[int]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Tokens a second, the median over repeats."""
        return 1 / statistics.median(self.paces)

    @property
    def paces(self) -> list[float]:
        """Seconds for a token, of each repeat."""
        return [seconds / tokens for seconds, tokens in zip(self.seconds, self.tokens, strict=True)]


def alternate(ways: Mapping[str, Callable[[], int]], repeats: int, warmup: int, equal: bool = True) -> dict[str, Timed]:
    """Run all ways in turns (A B A B …), so that what slows the machine for a while slows all of them.

    A way returns the number of tokens that it produced. ``warmup`` rounds come first and do not count.

    Raises:
        RuntimeError: with ``equal``, the ways did not produce the same number of tokens; nothing can be compared.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tokens: dict[str, list[int]] = {name: [] for name in ways}
    for _ in range(warmup + repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            tokens[name].append(way())
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - begin)
        now = {name: counts[-1] for name, counts in tokens.items()}
        if equal and len(set(now.values())) > 1:
            raise RuntimeError(f"what was compared did not produce the same number of tokens: {now}")
    return {name: Timed(seconds[name][warmup:], tokens[name][warmup:]) for name in ways}


def speedup(slow: Sequence[float], fast: Sequence[float]) -> Interval:
    """How many times as fast ``fast`` is, of seconds or paces: the median of the ratios of repeats that ran one after
    the other.

    The interval is from the smallest to the largest ratio: with n repeats it holds the median of such ratios with a
    probability of 1 - 2^(1 - n), 94 % for five (the sign test's interval; no shape of the noise is assumed).
    """
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return Interval(statistics.median(ratios), min(ratios), max(ratios))


def coverage(repeats: int) -> float:
    """The probability that the interval of ``speedup`` holds the median."""
    return float(1 - 2.0 ** (1 - repeats))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The least-squares line's rise per unit of ``x``."""
    return statistics.linear_regression(x, y).slope
