"""Format: whether a turn has the expected reasoning and answer tags."""

from __future__ import annotations

from typing import ClassVar, Literal

from src.rewards.base import Term
from src.types import Problem, Scorer, Turn
from src.verifiers.tags import well_formed


class Format(Term):
    """1 for exactly one reasoning block and one answer block in order, else 0."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    judged: ClassVar[bool] = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return float(well_formed(turn.text))
