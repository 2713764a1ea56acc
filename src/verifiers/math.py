"""Math: whether the stated answer means what the gold means, on any benchmark."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from src.types import Scorer
from src.verifiers.base import Verifier
from src.verifiers.equivalence import Equivalence


class Math(Verifier):
    """Mathematical equivalence; ``seconds`` and ``memory_mb`` bound what the verdict on one answer may cost."""

    name: ClassVar[str] = "math"
    needs_gold: ClassVar[bool] = True
    seconds: float = Field(2.0, gt=0)
    memory_mb: int = Field(512, ge=64)
    at_once: int = Field(2, ge=1, le=256)

    def scorer(self, own: Scorer) -> Scorer:
        return Equivalence(self.seconds, self.memory_mb).score
