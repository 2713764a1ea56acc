"""Carry the progress of all earlier rounds, oldest first."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts, fill
from src.types import Turn
from src.verifiers.tags import progress


class History(Carry):
    """Carries the ``<answer>`` of each round on its own line, formatted with the prompts' ``item``."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        items = ({"progress": progress(turn.text), "round": str(turn.round)} for turn in lineage)
        return "\n".join(fill(prompts.item, item) for item in items)
