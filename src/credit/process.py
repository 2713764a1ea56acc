"""Train every turn with a process advantage: the value of the state after the turn minus the value before it.

Values are Monte Carlo estimates from probes, i.e. chains that run to the end from the question and from every round and
are not trained (VinePPO, arXiv 2410.01679).
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
    """A = V(after) - V(before), unbiased for any number of probes, because neither value depends on the siblings.

    After the last round, the value is the turn's own score. ``scale=batch`` divides by the standard deviation of all
    advantages of the step. The algorithm's own baseline and scaling are for groups, and are not used.
    """

    learns: ClassVar[Literal["first", "all"]] = "all"
    across_rounds: ClassVar[bool] = True
    weighting: Weighting = "level"
    scale: Literal["batch", "none"] = "batch"
    epsilon: float = Field(1e-4, ge=0)  # added to the standard deviation

    def check_run(self, run: RunSettings) -> Iterable[str]:
        yield from super().check_run(run)
        if run.rounds is not None and run.rounds.probes < 1:
            yield (
                "credit=process estimates the values before and after a round from probes, but "
                f"rounds.probes={run.rounds.probes}; use 1 or more (reward=process sets 4)"
            )

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        differences = [self._differences(rollout, score) for rollout, score in zip(rollouts, scores, strict=True)]
        of_step = [difference for tree in differences for difference in tree.values()]
        deviation = statistics.stdev(of_step) if self.scale == "batch" and len(of_step) > 1 else 0.0
        divisor = deviation + self.epsilon if deviation else 1.0
        rows = [
            row
            for rollout, tree in zip(rollouts, differences, strict=True)
            for row in weighed(
                [(turn, tree[turn.path] / divisor) for turn in rollout.turns if turn.path in tree], self.weighting
            )
        ]
        return Credited(rows, sum(map(bool, differences)), sum(not tree for tree in differences))

    def _differences(self, rollout: Rollout, scores: Scores) -> dict[Path, float]:
        own = own_share(rollout, scores)
        return {
            turn.path: scores.ahead(turn.path) - scores.ahead(turn.source) + own[turn.path]
            for turn in scores.valued(rollout)
        }
