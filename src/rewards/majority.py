"""Majority: agreement with the vote of a problem's own answers, without the gold answer (TTRL, arXiv 2504.16084)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ClassVar, Literal

from src.rewards.base import Term
from src.types import Rollout, Scorer, Turn
from src.verifiers.tags import stated_answer
from src.verifiers.votes import merged


class Majority(Term):
    """1 for the answer that most leaves of the rollout state, else 0. Equal answers by meaning are one vote.

    In a tie, all winners score 1. A turn that states no answer scores 0. Probes and pruned turns have no vote; their
    answers are compared with the winners.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
    judged: ClassVar[bool] = False

    def scoring(self, rollout: Rollout, scorer: Scorer) -> Callable[[Turn], float]:
        leaves = rollout.leaves()
        voting = {leaf.path for leaf in leaves}
        others = [turn for turn in rollout.turns if turn.written and turn.path not in voting]
        ends = [*leaves, *(turn for turn in others if turn.probe or turn.final)]
        meant = dict(zip((end.path for end in ends), merged([stated_answer(end.said) for end in ends]), strict=True))
        votes = Counter(meant[path] for path in voting if meant[path] is not None)
        winners = {answer for answer, count in votes.items() if count == max(votes.values())}
        return lambda turn: float(meant.get(turn.path) in winners)
