"""Search by value estimates: the share of a candidate's probes that agree with the majority of all probes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from src.rounds.base import Search
from src.rounds.search.base import thoughts
from src.types import Path, Turn


class Value(Search):
    """Ranks candidates by value: the share of their probes whose answer is the most common one among all probes.

    Agreement replaces the gold answer (self-consistency, arXiv 2203.11171). A finished candidate has no probes and
    counts as its own probe. If a probe states an answer, the most common one is a stated one. Ties keep their order.
    """

    probes: ClassVar[bool] = True

    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        probes = [probed.get(turn.path) or [turn] for turn in pool]
        found = iter(thoughts([probe for own in probes for probe in own]))
        ends = [[next(found) for _ in own] for own in probes]
        counts = Counter(end for own in ends for end in own)
        best = max(counts, key=lambda end: (end.stated, counts[end]))
        values = [sum(end == best for end in own) / len(own) for own in ends]
        return sorted(range(len(pool)), key=lambda index: -values[index])
