"""Train the first round only, each response against its siblings (GRPO; MOTIF, if responses have continuations)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from src.credit.base import Advantages, Credited, CreditRule
from src.types import Rollout, Row, Scores


class First(CreditRule):
    """Advantages of first-round turns; the group is all first-round turns of a problem."""

    learns: ClassVar[Literal["first", "all"]] = "first"

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        groups = [
            [turn for turn in score.valued(rollout) if turn.round == 1]
            for rollout, score in zip(rollouts, scores, strict=True)
        ]
        learning = [(score, turns) for score, turns in zip(scores, groups, strict=True) if len(turns) > 1]
        values = [[score.values[turn.path] for turn in turns] for score, turns in learning]
        rows = [
            Row.of(turn, advantage, 1 / len(turns))
            for (_, turns), group in zip(learning, advantages(values), strict=True)
            for turn, advantage in zip(turns, group, strict=True)
        ]
        return Credited(rows, len(learning), len(groups) - len(learning))
