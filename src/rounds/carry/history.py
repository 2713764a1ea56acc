"""Carry every progress so far, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.rounds.base import Prompts, fill
from src.types import Turn
from src.verifiers.tags import progress


@dataclass(frozen=True)
class History:
    """The ``<answer>`` of each round, one ``item`` of the prompts a line."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        items = ({"progress": progress(turn.text), "round": str(turn.round)} for turn in lineage)
        return "\n".join(fill(prompts.item, item) for item in items)
