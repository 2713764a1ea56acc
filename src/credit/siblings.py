"""Train every turn against its siblings; an only child inherits its source's advantage.

On MOTIF's tree this is tree credit (TreeRPO, arXiv 2506.05183; Tree-GRPO, 2509.21240): it also trains the continuations
that MOTIF samples only to estimate values. On chains, all rounds of a trajectory share one outcome advantage (MemAgent,
2507.02259; InftyThink+, 2602.06960), and the baseline counts each trajectory once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from src.credit.base import Advantages, Credited, CreditRule, Weighting, weighed
from src.settings import RunSettings
from src.types import Path, Rollout, Scores, Turn


class Siblings(CreditRule):
    """Advantages of turns; a group is all turns of one prompt. Siblings share a state, so their mean is a baseline.

    A turn without siblings whose prompt has several sources is not trained on, but counted as lonely. With ``absent``,
    a draft that is read with others is compared with the prompts that do not quote it, instead of with its siblings:
    its value minus their mean f(G), which is unbiased. The algorithm's baseline and scaling do not apply to it.
    """

    learns: ClassVar[Literal["first", "all"]] = "all"
    weighting: Weighting = "level"
    absent: bool = False

    def check_run(self, run: RunSettings) -> Iterable[str]:
        yield from super().check_run(run)
        if self.absent and run.algorithm is not None and run.algorithm.scale != "none":
            yield (
                f"credit.absent=true does not scale the advantages of drafts, but "
                f"algorithm.scale={run.algorithm.scale} scales the others; use algorithm.scale=none"
            )

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
        if self.absent:
            for tree, (rollout, score) in enumerate(zip(rollouts, scores, strict=True)):
                by_path[tree] |= _against_absent(rollout, score)
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


def _against_absent(rollout: Rollout, scores: Scores) -> dict[Path, float]:
    """Advantages of the drafts that are read with others: value minus the mean f(G) of the prompts without the draft.

    A draft that every prompt quotes has 0, since there is nothing to compare it with.
    """
    prompts: dict[Path, tuple[tuple[Path, ...], list[float]]] = {}
    for turn in scores.valued(rollout):
        if len(turn.quoted) > 1:
            prompts.setdefault(turn.family, (turn.quoted, []))[1].append(scores.values[turn.path])
    means = [(sources, sum(values) / len(values)) for sources, values in prompts.values()]
    advantages = {}
    for draft in {source for sources, _ in means for source in sources}:
        others = [mean for sources, mean in means if draft not in sources]
        advantages[draft] = scores.values[draft] - sum(others) / len(others) if others else 0.0
    return advantages
