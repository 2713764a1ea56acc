"""Immediate: is the answer that a turn states itself right? The ablation that asks whether looking ahead matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from src.rewards.base import correctness
from src.types import Problem, Scorer, Turn


@dataclass(frozen=True)
class Immediate:
    """Correctness of each turn's own stated answer, whatever the rounds after it make of it."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    weight: float = 1.0

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return correctness(problem, turn, scorer)
