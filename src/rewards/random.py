"""Random: a coin instead of a verdict. The control of how much training without any information changes."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Literal

from pydantic import Field

from src.rewards.base import Term
from src.types import Problem, Scorer, Turn


class Random(Term):
    """1 with the chance ``chance``, else 0, whatever the turn says (spurious rewards, arXiv 2506.10947).

    The coin belongs to the turn, like its random numbers, so that a resumed run throws the same ones.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
    judged: ClassVar[bool] = False
    chance: float = Field(0.5, gt=0, lt=1)

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        coin = hashlib.sha256(f"reward/{turn.stream}/{problem.id}/{turn.path}".encode()).digest()
        return float(int.from_bytes(coin[:8], "big") < self.chance * 2**64)
