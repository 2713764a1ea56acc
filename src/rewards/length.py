"""Length: a penalty on the used share of the token budget, without results of tools."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from src.rewards.base import Term
from src.types import Problem, Scorer, Turn


class Length(Term):
    """From 0 for an empty completion to -1 for the whole budget: ``linear`` in the tokens, or half a ``cosine`` wave,
    flat at both ends (arXiv 2502.03373, which interpolates the rewards of correct and wrong answers this way)."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    judged: ClassVar[bool] = False
    shape: Literal["linear", "cosine"] = "linear"

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        used = min(1.0, turn.generated / turn.sampling.max_new_tokens)
        return -used if self.shape == "linear" else -(1 - math.cos(math.pi * used)) / 2
