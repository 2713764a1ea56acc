"""Carry everything that was written so far (the unfolded mode of Accordion-Thinking, arXiv 2602.03249)."""

from __future__ import annotations

from collections.abc import Sequence

from src.rounds.base import Carry
from src.rounds.prompts import Prompts
from src.types import Turn


class Transcript(Carry):
    """Carries the whole text of all earlier rounds, oldest first: the control for carry rules that leave something out.

    The context grows with the number of rounds; ``rounds.progress_tokens`` must hold the text of all but the last.
    """

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str:
        return "\n".join(turn.text.strip() for turn in lineage)
