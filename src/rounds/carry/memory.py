"""Carry a memory that every round rewrites (MemAgent, arXiv 2507.02259)."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts
from src.types import Turn


class Memory(Carry):
    """Carries the previous round's whole text. Anything that the model does not repeat there is lost."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        return lineage[-1].text.strip()
