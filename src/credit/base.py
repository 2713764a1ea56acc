"""What a credit rule is, and what the rules share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from src.settings import RunSettings, Section
from src.types import Rollout, Row, Scores, Turn

Advantages = Callable[[Sequence[Sequence[float]]], list[list[float]]]
"""Values of each group to advantages of each group: the algorithm's baseline and scaling."""

Weighting = Literal["level", "turn"]
"""``level``: the turns of one round of a rollout share a weight of 1, so that 64 continuations do not outweigh 8 first
responses; ``turn``: every turn has weight 1."""


@dataclass(frozen=True)
class Credited:
    """The rows to learn from, with counts of groups."""

    rows: list[Row]
    groups: int  # groups that gave rows
    lonely_groups: int  # groups with fewer than two live turns: nothing to compare, no advantage


class CreditRule(Section, ABC):
    """Turns values into advantages, for a whole batch of rollouts at once."""

    learns: ClassVar[Literal["first", "all"]]  # rounds whose turns give rows
    across_rounds: ClassVar[bool] = False  # whether values of one round are compared with those of another

    @abstractmethod
    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        """The rows of a batch of rollouts."""

    def check_run(self, run: RunSettings) -> Iterable[str]:
        rounds, reward, algorithm = run.rounds, run.reward, run.algorithm
        if self.across_rounds and reward is not None and reward.normalise == "before":
            yield (
                "reward.normalise=before makes values that compare siblings only, but this credit rule compares "
                "rounds; use reward.normalise=after, or credit=siblings"
            )
        if rounds is None or not rounds.widths:  # no rounds, no groups
            return
        group = rounds.widths[0]
        if group < 2:
            scaled = algorithm is not None and algorithm.scale == "group"
            yield (
                f"a group of {group} (rounds.responses, or rounds.branching) has nothing to compare and never learns"
                + (" and no standard deviation (algorithm.scale=group)" if scaled else "")
                + "; use 2 or more"
            )
        if self.learns == "all" and rounds.n != 1:
            yield from _unlearnable(rounds)


def _unlearnable(rounds: Any) -> Iterable[str]:
    """Why later rounds cannot learn from what was sampled."""
    if rounds.continuation != "policy":
        yield (
            f"credit lets every round learn, but rounds.continuation={rounds.continuation} has later rounds "
            "written by other weights than the policy's; use rounds.continuation=policy, or credit=first"
        )
    if rounds.later_top_p < 1:
        yield (
            f"rounds.later_top_p={rounds.later_top_p} cuts the distribution of turns that learn, so their log-probs "
            "would be wrong; use rounds.later_top_p=1, or credit=first"
        )
    if rounds.later_temperature == 0:
        yield "rounds.later_temperature=0 makes all continuations equal, and credit lets them learn; use e.g. 1.0"


def weighed(credited: Sequence[tuple[Turn, float]], weighting: Weighting) -> list[Row]:
    """Rows of one rollout from its turns and their advantages."""
    counts = Counter(turn.round for turn, _ in credited)
    return [
        Row.of(turn, advantage, 1 / counts[turn.round] if weighting == "level" else 1.0) for turn, advantage in credited
    ]


def own_share(rollout: Rollout, scores: Scores) -> dict[tuple[int, ...], float]:
    """What each turn's own terms add to an advantage that is made of differences of values: their sum against the mean
    over the turns of its round (the rounds after it say nothing of them)."""
    levels: dict[int, list[float]] = {}
    turns = scores.valued(rollout)
    for turn in turns:
        levels.setdefault(turn.round, []).append(scores.own.get(turn.path, 0.0))
    means = {number: sum(level) / len(level) for number, level in levels.items()}
    return {turn.path: scores.own.get(turn.path, 0.0) - means[turn.round] for turn in turns}
