"""Overlong: soft punishment of completions close to the token budget (DAPO, arXiv 2503.14476, equation 13)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from src.rewards.base import Term
from src.types import Problem, Scorer, Turn


class Overlong(Term):
    """0 before the last ``buffer`` of the turn's token budget, then linear down to -1 at its end.

    ``buffer`` is a share of the budget; DAPO's 4,096 of 20,480 tokens are 0.2.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    judged: ClassVar[bool] = False
    buffer: float = Field(0.2, gt=0, le=1)

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        budget = turn.sampling.max_new_tokens
        room = (1 - self.buffer) * budget - len(turn.completion)
        return max(-1.0, min(0.0, room / (self.buffer * budget)))
