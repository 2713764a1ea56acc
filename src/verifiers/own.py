"""Own: the benchmark's own judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from src.types import Problem, Scorer
from src.verifiers.base import Verifier
from src.verifiers.tags import ANSWER, ANSWER_END, BOXED

CONSTANTS = ("nan", "0", "", "1", "True", "None", "inf", "0.0", "2", "x")
"""Answers that a model can give to every problem."""

TRIED = 12
"""Problems of a split on which the constants are tried."""


class Own(Verifier):
    """Verdicts of the benchmark's own scoring function.

    Some tasks' scoring functions accept one constant answer on most problems, and a model soon learns to give it. Such
    a task is refused when its problems are loaded.
    """

    name: ClassVar[str] = "own"
    needs_gold: ClassVar[bool] = False

    def scorer(self, own: Scorer) -> Scorer:
        return own

    def trial(self, scorer: Scorer, problems: Sequence[Problem]) -> Iterable[str]:
        different = list({problem.answer or problem.id: problem for problem in problems}.values())[:TRIED]
        if len(different) < 2:
            return
        for constant in CONSTANTS:
            text = f"{ANSWER}{BOXED}{constant}}}{ANSWER_END}"
            accepted = sum(scorer(problem, text) == 1 for problem in different)
            if accepted == len(different) or accepted > max(3, len(different) / 2):
                yield (
                    f"verifier=own accepts the answer {constant!r} on {accepted} of {len(different)} problems with "
                    "different answers, so that a model learns to give it; use verifier=math"
                )
                return
