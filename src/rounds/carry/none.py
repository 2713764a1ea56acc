"""Carry nothing: every round is a new try at the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.rounds.base import Prompts
from src.types import Turn


@dataclass(frozen=True)
class Nothing:
    """The control of every other rule: the same number of rounds and tokens, and no memory."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> None:
        return None
