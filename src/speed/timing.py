"""Timing of alternating methods, and speedups with intervals."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from src.evaluation.statistics import Interval


@dataclass(frozen=True)
class Timed:
    """Seconds and tokens of each repeat of one method."""

    seconds: Sequence[float]
    tokens: Sequence[int]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Median tokens per second."""
        return 1 / statistics.median(self.paces)

    @property
    def paces(self) -> list[float]:
        """Seconds per token of each repeat."""
        return [seconds / tokens for seconds, tokens in zip(self.seconds, self.tokens, strict=True)]


def alternate(ways: Mapping[str, Callable[[], int]], repeats: int, warmup: int, equal: bool = True) -> dict[str, Timed]:
    """Time alternating repeats of several methods (A B A B …), so that a temporary slowdown affects all of them.

    Each method returns the number of tokens that it produced. The first ``warmup`` repeats are not counted.

    Raises:
        RuntimeError: with ``equal``, the methods did not produce the same number of tokens.
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
            raise RuntimeError(f"the compared methods did not produce the same number of tokens: {now}")
    return {name: Timed(seconds[name][warmup:], tokens[name][warmup:]) for name in ways}


def speedup(slow: Sequence[float], fast: Sequence[float]) -> Interval:
    """Speedup of ``fast`` over ``slow`` (seconds, or seconds per token): the median ratio of paired repeats.

    The interval is from the smallest to the largest ratio. With n repeats it contains the true median ratio with
    probability 1 - 2^(1 - n), i.e. 94 % for five (interval of the sign test, without assumptions on the noise).
    """
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return Interval(statistics.median(ratios), min(ratios), max(ratios))


def coverage(repeats: int) -> float:
    """Coverage probability of the interval of ``speedup``."""
    return float(1 - 2.0 ** (1 - repeats))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the least-squares line."""
    return statistics.linear_regression(x, y).slope
