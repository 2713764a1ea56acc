"""Every turn learns from its own progress: what the state is worth after it, less what it was worth before.

Values come from probes alone: chains that run to the end from the question and from every round, and that no gradient
touches (VinePPO, arXiv 2410.01679).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from src.credit.base import Advantages, Credited, CreditRule, Weighting, own_share, weighed
from src.settings import RunSettings
from src.types import Path, Rollout, Scores


class Process(CreditRule):
    """A = V(after) - V(before), unbiased for any number of probes, since neither value depends on the turn's siblings.

    The last round's value after it is its own score. ``scale=batch`` divides by the standard deviation of all
    advantages of the step; the algorithm's own scaling compares groups and is not used.
    """

    learns: ClassVar[Literal["first", "all"]] = "all"
    across_rounds: ClassVar[bool] = True  # values of one round are compared with those of another
    weighting: Weighting = "level"
    scale: Literal["batch", "none"] = "batch"
    epsilon: float = Field(1e-4, ge=0)  # added to the standard deviation

    def check_run(self, run: RunSettings) -> Iterable[str]:
        yield from super().check_run(run)
        if run.rounds is not None and run.rounds.probes < 1:
            yield (
                "credit=process takes the values before and after a round from probes, but "
                f"rounds.probes={run.rounds.probes} samples none; use 1 or more (reward=process sets 4)"
            )

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        earned = [self._differences(rollout, score) for rollout, score in zip(rollouts, scores, strict=True)]
        everything = [advantage for tree in earned for advantage in tree.values()]
        spread = statistics.stdev(everything) if self.scale == "batch" and len(everything) > 1 else 0.0
        divisor = spread + self.epsilon if spread else 1.0
        rows = [
            row
            for rollout, tree in zip(rollouts, earned, strict=True)
            for row in weighed(
                [(turn, tree[turn.path] / divisor) for turn in rollout.turns if turn.path in tree], self.weighting
            )
        ]
        return Credited(rows, sum(map(bool, earned)), sum(not tree for tree in earned))

    def _differences(self, rollout: Rollout, scores: Scores) -> dict[Path, float]:
        own = own_share(rollout, scores)
        return {
            turn.path: scores.ahead(turn.path) - scores.ahead(turn.parent) + own[turn.path]
            for turn in scores.valued(rollout)
        }
