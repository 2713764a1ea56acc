"""The contract of a verifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from src.settings import Section
from src.types import Scorer


class Verifier(Section, ABC):
    """A judge of answers."""

    name: ClassVar[str]
    needs_gold: ClassVar[bool]  # compares with a gold answer, so it cannot judge problems without one

    @abstractmethod
    def scorer(self, own: Scorer) -> Scorer:
        """The function that judges a text; ``own`` is the benchmark's own judge."""
