"""Own: the benchmark's own judge."""

from __future__ import annotations

from typing import ClassVar

from src.types import Scorer
from src.verifiers.base import Verifier


class Own(Verifier):
    """What the benchmark says, whichever way it finds that out."""

    name: ClassVar[str] = "own"
    needs_gold: ClassVar[bool] = False

    def scorer(self, own: Scorer) -> Scorer:
        return own
