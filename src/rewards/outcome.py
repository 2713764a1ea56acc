"""Outcome: where thinking ends, is the answer right? MOTIF's accuracy reward (arXiv 2507.02851, section 3)."""

from __future__ import annotations

from typing import ClassVar, Literal

from src.rewards.base import Term, correctness
from src.types import Problem, Scorer, Turn


class Outcome(Term):
    """Correctness at the leaves: a first response is worth the mean over its continuations; with one round, its own."""

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return correctness(problem, turn, scorer)
