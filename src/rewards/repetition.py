"""Repetition: a penalty on repeated n-grams within a turn (as in arXiv 2502.03373 and Open-R1)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from src.rewards.base import Term
from src.types import Problem, Scorer, Turn


class Repetition(Term):
    """Minus the share of n-grams of ``size`` tokens that occurred before in the turn: distinct / all - 1, 0 to -1."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    judged: ClassVar[bool] = False
    size: int = Field(8, ge=1)

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        own = turn.mask or [True] * len(turn.completion)
        tokens = [token for token, sampled in zip(turn.completion, own, strict=True) if sampled]
        grams = [tuple(tokens[start : start + self.size]) for start in range(len(tokens) - self.size + 1)]
        return len(set(grams)) / len(grams) - 1.0 if grams else 0.0
