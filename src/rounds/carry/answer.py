"""Carry only the last progress (MOTIF, InftyThink), so that the context does not grow with the number of rounds."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts
from src.types import Turn
from src.verifiers.tags import progress


class Answer(Carry):
    """Carries the previous round's ``<answer>``, or its whole text if it has no such tag."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        return progress(lineage[-1].text)
