"""Length: every token of the budget costs."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from src.rewards.base import Term
from src.types import Problem, Scorer, Turn


class Length(Term):
    """0 for nothing written to -1 for the whole budget: ``linear`` in the tokens, or along half a ``cosine``, flat at
    both ends (the shape of arXiv 2502.03373, there between the rewards of right and wrong answers)."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    shape: Literal["linear", "cosine"] = "linear"

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        used = min(1.0, len(turn.completion) / turn.sampling.max_new_tokens)
        return -used if self.shape == "linear" else -(1 - math.cos(math.pi * used)) / 2
