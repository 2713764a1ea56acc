"""Value estimates: candidates whose probes agree with the majority of all probes go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from src.rounds.base import Search
from src.rounds.search.base import thought
from src.types import Path, Turn


class Value(Search):
    """A candidate's value = the share of its probes that end with the answer most probes of the pool end with.

    Without a gold answer, agreement stands for correctness (self-consistency, arXiv 2203.11171). A candidate that has
    no probes, since it ends, counts as its own probe. Ties in order of appearance.
    """

    probes: ClassVar[bool] = True

    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        ends = [[thought(probe) for probe in probed.get(turn.path) or [turn]] for turn in pool]
        counts = Counter(end for own in ends for end in own)
        best = max(counts, key=lambda end: counts[end])
        values = [sum(end == best for end in own) / len(own) for own in ends]
        return sorted(range(len(pool)), key=lambda index: -values[index])
