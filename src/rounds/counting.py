"""Numbers of turns in each round of a rollout, from which the time of a step is estimated."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, zip_longest
from typing import NamedTuple


class Count(NamedTuple):
    """Turns of one round: those that can be credited, and probes. Means over problems need not be whole."""

    turns: float
    probes: float = 0.0

    @property
    def sampled(self) -> float:
        """All turns that are generated."""
        return self.turns + self.probes


def counted(turns: Iterable[float], begun: Iterable[float]) -> tuple[Count, ...]:
    """The counts of a rollout with so many turns in each round; ``begun`` are the probes that start in each round.

    A probe runs to the last round.
    """
    return tuple(Count(*both) for both in zip(turns, accumulate(begun), strict=True))


def averaged(parts: Iterable[tuple[float, tuple[Count, ...]]]) -> tuple[Count, ...]:
    """The mean of several rollouts' counts, with the share of each. A rollout without a round has no turns there."""
    weighted = [[Count(share * one.turns, share * one.probes) for one in counts] for share, counts in parts]
    rounds = zip_longest(*weighted, fillvalue=Count(0.0))
    return tuple(Count(sum(one.turns for one in same), sum(one.probes for one in same)) for same in rounds)
