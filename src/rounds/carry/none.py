"""Carry nothing: every round is a new attempt at the question."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts
from src.types import Turn


class Nothing(Carry):
    """The control for all other carry rules: the same number of rounds and tokens, without memory."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> None:
        return None
