"""Carry a memory that every round writes anew (MemAgent, arXiv 2507.02259)."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts
from src.types import Turn


class Memory(Carry):
    """All that the previous round wrote, as free text: whatever the model leaves out of it is forgotten."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        return lineage[-1].text.strip()
