"""Carry every progress so far, oldest first."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts, fill
from src.types import Turn
from src.verifiers.tags import progress


class History(Carry):
    """The ``<answer>`` of each round, one ``item`` of the prompts a line."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        items = ({"progress": progress(turn.text), "round": str(turn.round)} for turn in lineage)
        return "\n".join(fill(prompts.item, item) for item in items)
