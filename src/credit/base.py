"""Abstract base class of the credit rules, and the functions that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from src.settings import RunSettings, Section
from src.types import Rollout, Row, Scores, Turn

Advantages = Callable[[Sequence[Sequence[float]]], list[list[float]]]
"""Maps the values of each group to its advantages, with the algorithm's baseline and scaling."""

Weighting = Literal["level", "turn"]
"""Loss weights of turns. ``level``: the turns of each round of a rollout share a total weight of 1, so that 64
continuations do not outweigh 8 first responses. ``turn``: every turn has weight 1."""


@dataclass(frozen=True)
class Credited:
    """Training rows with their advantages, and the number of groups."""

    rows: list[Row]
    groups: int  # groups with rows
    lonely_groups: int  # groups with fewer than two live turns, which have no baseline and so no rows


class CreditRule(Section, ABC):
    """A credit rule: turns the values of a batch of rollouts into advantages."""

    learns: ClassVar[Literal["first", "all"]]  # rounds whose turns are trained
    across_rounds: ClassVar[bool] = False  # whether the rule compares values of different rounds

    @abstractmethod
    def rows(self, rollouts: Sequence[Rollout], scores: Sequence[Scores], advantages: Advantages) -> Credited:
        """The rows of a batch of rollouts."""

    def check_run(self, run: RunSettings) -> Iterable[str]:
        rounds, reward, algorithm = run.rounds, run.reward, run.algorithm
        if self.across_rounds and reward is not None and reward.normalise == "before":
            yield (
                "reward.normalise=before makes values comparable among siblings only, but this credit rule compares "
                "values of different rounds; use reward.normalise=after, or credit=siblings"
            )
        if rounds is None or not rounds.widths:  # no rounds, no groups
            return
        group = rounds.widths[0]
        if group < 2:
            scaled = algorithm is not None and algorithm.scale == "group"
            yield (
                f"a group of {group} (rounds.responses, or rounds.branching) has no baseline, so it never learns"
                + (", and no standard deviation (algorithm.scale=group)" if scaled else "")
                + "; use 2 or more"
            )
        if self.learns == "all" and rounds.n != 1:
            yield from _unlearnable(rounds)


def _unlearnable(rounds: Any) -> Iterable[str]:
    """Error messages for settings under which turns of later rounds cannot be trained."""
    if rounds.continuation != "policy":
        yield (
            f"credit trains every round, but with rounds.continuation={rounds.continuation} later rounds are not "
            "sampled from the policy; use rounds.continuation=policy, or credit=first"
        )
    if rounds.later_top_p < 1:
        yield (
            f"rounds.later_top_p={rounds.later_top_p} truncates the sampling distribution of trained turns, so their "
            "log-probs would be wrong; use rounds.later_top_p=1, or credit=first"
        )
    if rounds.later_temperature == 0:
        yield (
            "rounds.later_temperature=0 makes all continuations equal, so credit cannot train them; use e.g. 1.0, or "
            "credit=first"
        )


def weighed(credited: Sequence[tuple[Turn, float]], weighting: Weighting) -> list[Row]:
    """Training rows of one rollout, from its turns and their advantages."""
    counts = Counter(turn.round for turn, _ in credited)
    return [
        Row.of(turn, advantage, 1 / counts[turn.round] if weighting == "level" else 1.0) for turn, advantage in credited
    ]


def own_share(rollout: Rollout, scores: Scores) -> dict[tuple[int, ...], float]:
    """Advantage from turn-level reward terms (e.g. format): the sum of the terms minus its mean over the turns of that
    round. Credit rules that compute differences of values add it, because the value of a state excludes these terms."""
    levels: dict[int, list[float]] = {}
    turns = scores.valued(rollout)
    for turn in turns:
        levels.setdefault(turn.round, []).append(scores.own.get(turn.path, 0.0))
    means = {number: sum(level) / len(level) for number, level in levels.items()}
    return {turn.path: scores.own.get(turn.path, 0.0) - means[turn.round] for turn in turns}
