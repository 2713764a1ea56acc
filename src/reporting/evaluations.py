"""Evaluations in summaries, by benchmark, split and rounds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class Name(NamedTuple):
    """What was evaluated."""

    benchmark: str
    split: str
    rounds: int

    def label(self, among: Collection[Name]) -> str:
        """The split, with its benchmark if ``among`` holds several benchmarks."""
        return self.split if len({name.benchmark for name in among}) == 1 else f"{self.benchmark}/{self.split}"


def evaluations(summary: Mapping[str, Any], part: str, benchmark: str) -> dict[Name, Mapping[str, Any]]:
    """The evaluations ``before`` or ``after`` training, or the ``change``, of a run's summary.

    Summaries that were written before evaluations named their benchmark hold a mapping from ``"<split>, <n> rounds"``;
    ``benchmark`` is the run's.
    """
    found = summary["evaluations"][part]
    if not isinstance(found, Mapping):
        return {Name(one["benchmark"], one["split"], one["rounds"]): one for one in found}
    result = {}
    for key, one in found.items():
        split, _, rounds = key.rpartition(", ")
        result[Name(benchmark, split, int(rounds.split()[0]))] = one
    return result
