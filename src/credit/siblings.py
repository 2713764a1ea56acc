"""Train every turn against its siblings; an only child inherits its source's advantage.

On MOTIF's tree this is tree credit (TreeRPO, arXiv 2506.05183; Tree-GRPO, 2509.21240): it also trains the continuations
that MOTIF samples only to estimate values. On chains, all rounds of a trajectory share one outcome advantage (MemAgent,
2507.02259; InftyThink+, 2602.06960), and the baseline counts each trajectory once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from src.credit.base import Advantages, Credited, CreditRule, Weighting, weighed
from src.types import Path, Rollout, Scores, Turn


class Siblings(CreditRule):
    """Advantages of turns; a group is all turns of one prompt. Siblings share a state, so their mean is a baseline.

    A turn that is alone with a prompt of several sources has no advantage: it is counted as lonely.
    """

    learns: ClassVar[Literal["first", "all"]] = "all"
    weighting: Weighting = "level"

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        groups: list[tuple[int, list[Turn]]] = []
        heirs: list[tuple[int, Turn]] = []
        lonely = 0
        for tree, (rollout, score) in enumerate(zip(rollouts, scores, strict=True)):
            families: dict[Path, list[Turn]] = {}
            for turn in score.valued(rollout):
                families.setdefault(turn.family, []).append(turn)
            for family in families.values():
                if len(family) > 1:
                    groups.append((tree, family))
                elif len(family[0].quoted) == 1 and len(rollout.siblings(family[0])) == 1:
                    heirs.append((tree, family[0]))
                else:
                    lonely += 1
        values = [[scores[tree].values[turn.path] for turn in family] for tree, family in groups]
        by_path: list[dict[Path, float]] = [{} for _ in rollouts]
        for (tree, family), group in zip(groups, advantages(values), strict=True):
            by_path[tree].update((turn.path, advantage) for turn, advantage in zip(family, group, strict=True))
        for tree, heir in heirs:  # in order of rounds, so that a source has its advantage before its child
            if heir.source in by_path[tree]:
                by_path[tree][heir.path] = by_path[tree][heir.source]
        rows = [
            row
            for tree, rollout in enumerate(rollouts)
            for row in weighed(
                [(turn, by_path[tree][turn.path]) for turn in rollout.turns if turn.path in by_path[tree]],
                self.weighting,
            )
        ]
        return Credited(rows, len(groups), lonely)
