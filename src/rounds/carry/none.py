"""Carry nothing: every round is a new try at the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.records import Turn
from src.rounds.base import Prompts


@dataclass(frozen=True)
class Nothing:
    """The control of every other rule: the same number of rounds and tokens, and no memory."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> None:
        return None
