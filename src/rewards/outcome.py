"""Outcome: where thinking ends, is the answer right? MOTIF's accuracy reward (arXiv 2507.02851, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from src.rewards.base import correctness
from src.types import Problem, Scorer, Turn


@dataclass(frozen=True)
class Outcome:
    """Correctness at the leaves: a first response is worth the mean over its continuations; with one round, its own."""

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
    weight: float = 1.0

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return correctness(problem, turn, scorer)
