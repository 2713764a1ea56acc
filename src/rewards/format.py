"""Format: is a turn written in the protocol's tags?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from src.types import Problem, Scorer, Turn
from src.verifiers.tags import well_formed


@dataclass(frozen=True)
class Format:
    """1 for exactly one reasoning block and one answer block in order, else 0."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    weight: float = 1.0

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return float(well_formed(turn.text))
