"""Math: whether the stated answer means what the gold means, on any benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from src.types import Scorer
from src.verifiers.equivalence import Equivalence


@dataclass(frozen=True)
class Math:
    """Mathematical equivalence; ``seconds`` and ``memory_mb`` bound what the verdict on one answer may cost."""

    name: ClassVar[str] = "math"
    needs_gold: ClassVar[bool] = True
    seconds: float = 5.0
    memory_mb: int = 512

    def check(self) -> list[str]:
        errors = [] if self.seconds > 0 else [f"verifier.seconds={self.seconds} must be above 0"]
        return errors + ([] if self.memory_mb >= 64 else [f"verifier.memory_mb={self.memory_mb} must be 64 or more"])

    def scorer(self, own: Scorer) -> Scorer:
        return Equivalence(self.seconds, self.memory_mb).score
