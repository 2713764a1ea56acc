"""The contract of a verifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from src.settings import Section
from src.types import Problem, Scorer


class Verifier(Section, ABC):
    """A judge of answers.

    ``name`` and ``needs_gold`` (whether it cannot judge problems without a gold answer) may be class variables.
    """

    at_once: int = Field(1, ge=1, le=256)  # answers that are judged at the same time

    @property
    @abstractmethod
    def name(self) -> str:
        """The name under which verdicts are recorded."""

    @property
    @abstractmethod
    def needs_gold(self) -> bool: ...

    def described(self) -> dict[str, Any]:
        """Everything that verdicts depend on, as plain data."""
        return {name: value for name, value in super().described().items() if name != "at_once"}

    @abstractmethod
    def scorer(self, own: Scorer) -> Scorer:
        """The function that judges a text, 0 to 1; NaN where it comes to no verdict.

        ``own`` is the benchmark's own judge. With ``at_once`` above 1 the function is called from several threads.
        """

    def trial(self, scorer: Scorer, problems: Sequence[Problem]) -> Iterable[str]:
        """Yield what is wrong with verdicts that are known beforehand, on problems of one split; no weights are loaded
        then."""
        return ()
