"""Efficiency: a right answer is worth more the fewer rounds it took (InftyThink+, arXiv 2602.06960)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from src.rewards.base import correctness
from src.types import Problem, Scorer, Turn


@dataclass(frozen=True)
class Efficiency:
    """R = correct * (1 - ((rounds - 1) / limit)^2): 1 for a right answer in one round, 0 for a wrong one."""

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
    needs_conclusion: ClassVar[bool] = True  # with a fixed number of rounds it is the outcome, scaled
    limit: int  # rounds at most
    weight: float = 1.0

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return correctness(problem, turn, scorer) * (1 - ((turn.round - 1) / self.limit) ** 2)
