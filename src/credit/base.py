"""What a credit rule is, and what the rules share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from src.types import Rollout, Row, Scores, Turn

Advantages = Callable[[Sequence[Sequence[float]]], list[list[float]]]
"""Values of each group to advantages of each group: the algorithm's baseline and scaling."""

Weighting = Literal["level", "turn"]
"""``level``: the turns of a tree's round share a weight of one, so that 64 continuations do not drown 8 first
responses; ``turn``: every turn counts the same."""


@dataclass(frozen=True)
class Credited:
    """The rows to learn from, and what gave none."""

    rows: list[Row]
    groups: int  # groups that gave rows
    lonely_groups: int  # groups with fewer than two live turns: nothing to compare, no advantage


class CreditRule(Protocol):
    """Turns values into advantages, for a whole batch of trees at once."""

    learns: ClassVar[Literal["first", "all"]]  # rounds whose turns give rows

    def fits(self, widths: Sequence[int], probes: int) -> list[str]:
        """Why the rule cannot work on trees with these children at each depth, in words."""
        ...

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


def weighed(credited: Sequence[tuple[Turn, float]], weighting: Weighting) -> list[Row]:
    """Rows of one tree from its turns and their advantages."""
    counts = Counter(turn.round for turn, _ in credited)
    return [
        row(turn, advantage, 1 / counts[turn.round] if weighting == "level" else 1.0) for turn, advantage in credited
    ]


def valued(rollout: Rollout, scores: Scores) -> list[Turn]:
    """The turns that can be credited: all but probes that have a value."""
    return [turn for turn in rollout.turns if not turn.probe and turn.path in scores.values]


def own_share(rollout: Rollout, scores: Scores) -> dict[tuple[int, ...], float]:
    """What each turn's own terms add to an advantage that is made of differences of values: their sum against the mean
    over the turns of its round (the rounds after it say nothing of them)."""
    levels: dict[int, list[float]] = {}
    turns = valued(rollout, scores)
    for turn in turns:
        levels.setdefault(turn.round, []).append(scores.own.get(turn.path, 0.0))
    means = {number: sum(level) / len(level) for number, level in levels.items()}
    return {turn.path: scores.own.get(turn.path, 0.0) - means[turn.round] for turn in turns}
