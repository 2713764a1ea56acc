"""Train every turn with a global and a local advantage: against the whole tree and its parent (TreeRL, 2506.11902)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from src.credit.base import Advantages, Credited, CreditRule, Weighting, own_share, weighed
from src.types import Path, Rollout, Scores


class GlobalLocal(CreditRule):
    """A = [(V - V(root)) + (V - V(parent))] / sqrt(leaves below), where V is the mean outcome below a turn.

    The division by the square root keeps turns near the root, which have many leaves below them, from dominating.
    """

    learns: ClassVar[Literal["first", "all"]] = "all"
    across_rounds: ClassVar[bool] = True
    weighting: Weighting = "turn"

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        rows = []
        lonely = 0
        for rollout, score in zip(rollouts, scores, strict=True):
            turns = score.valued(rollout)
            if sum(turn.round == 1 for turn in turns) < 2:
                lonely += 1
                continue
            own, below = own_share(rollout, score), _leaves_below(rollout)
            credited = []
            for turn in turns:
                global_and_local = 2 * score.ahead(turn.path) - score.prior - score.ahead(turn.source)
                credited.append((turn, global_and_local / math.sqrt(below.get(turn.path, 1)) + own[turn.path]))
            rows += weighed(credited, self.weighting)
        return Credited(rows, len(rollouts) - lonely, lonely)


def _leaves_below(rollout: Rollout) -> dict[Path, int]:
    counts: dict[Path, int] = {}
    for leaf in rollout.leaves():
        for length in range(1, leaf.round + 1):
            counts[leaf.path[:length]] = counts.get(leaf.path[:length], 0) + 1
    return counts
