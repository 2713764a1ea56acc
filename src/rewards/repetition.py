"""Repetition: how much of a turn repeats itself (as the n-gram penalty of arXiv 2502.03373 and Open-R1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from src.types import Problem, Scorer, Turn


@dataclass(frozen=True)
class Repetition:
    """Minus the share of n-grams of ``size`` tokens that stood in the turn before: 1 - distinct / all, 0 to -1."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    weight: float = 1.0
    size: int = 8

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        return [] if self.size >= 1 else [f"size={self.size} must be 1 token or more"]

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        tokens = turn.completion
        grams = [tokens[start : start + self.size] for start in range(len(tokens) - self.size + 1)]
        return len(set(grams)) / len(grams) - 1.0 if grams else 0.0
