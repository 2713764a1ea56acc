"""Every turn learns: its value against its siblings'; an only child inherits its parent's advantage.

On MOTIF's tree this is tree credit (TreeRPO, arXiv 2506.05183; Tree-GRPO, 2509.21240): the continuations that MOTIF
samples, scores and throws away learn too. On chains it is one outcome shared by all rounds of a trajectory (MemAgent,
2507.02259; InftyThink+, 2602.06960), with a baseline that counts one value per trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from src.credit.base import Advantages, Credited, CreditRule, Weighting, weighed
from src.types import Path, Rollout, Scores, Turn


class Siblings(CreditRule):
    """Siblings stand before the same choice, so the mean of their values is a baseline for each of them."""

    learns: ClassVar[Literal["first", "all"]] = "all"
    weighting: Weighting = "level"

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        groups: list[tuple[int, list[Turn]]] = []
        heirs: list[tuple[int, Turn]] = []
        lonely = 0
        for tree, (rollout, score) in enumerate(zip(rollouts, scores, strict=True)):
            families: dict[Path, list[Turn]] = {}
            for turn in score.valued(rollout):
                families.setdefault(turn.parent, []).append(turn)
            for parent, family in families.items():
                if len(family) > 1:
                    groups.append((tree, family))
                elif parent != () and len(rollout.children(parent)) == 1:
                    heirs.append((tree, family[0]))
                else:
                    lonely += 1
        values = [[scores[tree].values[turn.path] for turn in family] for tree, family in groups]
        earned: list[dict[Path, float]] = [{} for _ in rollouts]
        for (tree, family), group in zip(groups, advantages(values), strict=True):
            earned[tree].update((turn.path, advantage) for turn, advantage in zip(family, group, strict=True))
        for tree, heir in heirs:  # parents come first
            if heir.parent in earned[tree]:
                earned[tree][heir.path] = earned[tree][heir.parent]
        rows = [
            row
            for tree, rollout in enumerate(rollouts)
            for row in weighed(
                [(turn, earned[tree][turn.path]) for turn in rollout.turns if turn.path in earned[tree]], self.weighting
            )
        ]
        return Credited(rows, len(groups), lonely)
