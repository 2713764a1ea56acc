"""Efficiency: correctness, discounted by the number of rounds (InftyThink+, arXiv 2602.06960)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field

from src.rewards.base import Term, correctness
from src.settings import RunSettings
from src.types import Problem, Scorer, Turn


class Efficiency(Term):
    """R = correct * (1 - ((rounds - 1) / limit)^2): 1 for a correct answer after one round, 0 for a wrong answer."""

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
    limit: int = Field(ge=1)  # maximum number of rounds

    def check_run(self, run: RunSettings) -> Iterable[str]:
        rounds = run.rounds
        if rounds is not None and not rounds.ends_early:
            yield (
                "reward.terms.efficiency rewards ending early, but rounds.ending=fixed always takes "
                f"{rounds.n} rounds; use rounds.ending=concludes"
            )

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return correctness(problem, turn, scorer) * (1 - ((turn.round - 1) / self.limit) ** 2)
