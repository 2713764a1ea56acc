"""What a verifier is."""

from __future__ import annotations

from typing import ClassVar, Protocol

from src.types import Scorer


class Verifier(Protocol):
    """A choice of judge.

    ``needs_gold`` says that it compares with a problem's gold, and so cannot judge where any answer that passes a
    benchmark's own test is right.
    """

    name: ClassVar[str]
    needs_gold: ClassVar[bool]

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        ...

    def scorer(self, own: Scorer) -> Scorer:
        """The judge of what was said; ``own`` is the benchmark's."""
        ...
