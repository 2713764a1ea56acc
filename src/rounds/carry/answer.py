"""Carry the last progress only (MOTIF, InftyThink): the context of a round never grows with their number."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts
from src.types import Turn
from src.verifiers.tags import progress


class Answer(Carry):
    """The previous round's ``<answer>``; without the tag, its whole text."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        return progress(lineage[-1].text)
