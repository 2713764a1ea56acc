r"""Published: answers compared as MOTIF's released code compares them, with its oddities (docs/paper.md).

Oddity 4: the gold must stand in the text, character by character, as ``\boxed{gold}``; ``\boxed{ 18 }``,
``\boxed{18.0}`` and ``\dfrac`` for ``\frac`` are wrong, and so is 1080 for 1,080. Any ``\boxed{gold}`` counts, whatever
else is stated after it. Oddity 7: on AIME the gold may stand anywhere, boxed or not, also inside a longer number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from src.types import Problem, Scorer
from src.verifiers.base import Verifier


class Published(Verifier):
    """Substrings; ``anywhere`` names the tables whose golds need no box (``Problem.metadata["source"]``)."""

    name: ClassVar[str] = "published"
    needs_gold: ClassVar[bool] = True
    anywhere: Sequence[str] = ("aime2024",)

    def scorer(self, own: Scorer) -> Scorer:
        return self.score

    def score(self, problem: Problem, text: str) -> float:
        """1 where the gold stands in ``text``, else 0."""
        if problem.metadata.get("source") in self.anywhere:
            return float(problem.answer in text)
        return float(f"\\boxed{{{problem.answer}}}" in text)
