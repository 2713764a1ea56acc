"""Only the first round learns: a response against its siblings (GRPO; with continuations below it, MOTIF)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.credit.base import Advantages, Credited, row
from src.records import Rollout, Scores


@dataclass(frozen=True)
class First:
    """Advantage of a first-round turn = its value against the other first-round turns of its problem."""

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        groups = [
            (rollout, score, [turn for turn in rollout.level(1) if turn.live])
            for rollout, score in zip(rollouts, scores, strict=True)
        ]
        learning = [group for group in groups if len(group[2]) > 1]
        values = [[score.values[turn.path] for turn in turns] for _, score, turns in learning]
        rows = [
            row(rollout, turn, advantage, 1 / len(turns))
            for (rollout, _, turns), group in zip(learning, advantages(values), strict=True)
            for turn, advantage in zip(turns, group, strict=True)
        ]
        return Credited(rows, len(learning), len(groups) - len(learning))
