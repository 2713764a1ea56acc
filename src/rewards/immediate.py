"""Immediate: is the answer that a turn states itself right? The ablation that asks whether looking ahead matters."""

from __future__ import annotations

from typing import ClassVar, Literal

from src.rewards.base import Term, correctness
from src.types import Problem, Scorer, Turn


class Immediate(Term):
    """Correctness of each turn's own stated answer, whatever the rounds after it make of it."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return correctness(problem, turn, scorer)
