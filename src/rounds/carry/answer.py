"""Carry the last progress only (MOTIF, InftyThink): the context of a round never grows with their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.rounds.base import Prompts
from src.types import Turn
from src.verifiers.tags import progress


@dataclass(frozen=True)
class Answer:
    """The previous round's ``<answer>``; without the tag, its whole text."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        return progress(lineage[-1].text)
