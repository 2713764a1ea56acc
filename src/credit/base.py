"""What a credit rule is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from src.records import Rollout, Row, Scores, Turn

Advantages = Callable[[Sequence[Sequence[float]]], list[list[float]]]
"""Values of each group to advantages of each group: the algorithm's baseline and scaling."""


@dataclass(frozen=True)
class Credited:
    """The rows to learn from, and what gave none."""

    rows: list[Row]
    groups: int  # groups that gave rows
    lonely_groups: int  # groups with fewer than two live turns: nothing to compare, no advantage


class CreditRule(Protocol):
    """Turns values into advantages, for a whole batch of trees at once."""

    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited: ...


def row(turn: Turn, advantage: float, weight: float) -> Row:
    """What the loss sees of ``turn``."""
    return Row(
        prompt=turn.prompt,
        completion=turn.completion,
        logprobs=turn.logprobs,
        temperature=turn.sampling.temperature,
        advantage=advantage,
        weight=weight,
        tree=turn.tree,
        path=turn.path,
        truncated=turn.status == "truncated",
    )
