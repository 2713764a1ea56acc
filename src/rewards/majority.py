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

    In a tie, all winners score 1. A turn that states no answer scores 0.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"

    def scoring(self, rollout: Rollout, scorer: Scorer) -> Callable[[Turn], float]:
        leaves = rollout.leaves()
        meant = dict(
            zip((leaf.path for leaf in leaves), merged([stated_answer(leaf.said) for leaf in leaves]), strict=True)
        )
        votes = Counter(answer for answer in meant.values() if answer is not None)
        winners = {answer for answer, count in votes.items() if count == max(votes.values())}
        return lambda turn: float(meant.get(turn.path) in winners)
