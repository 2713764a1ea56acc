"""Contract of an experiment tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from src.settings import Section


class Tracker:
    """Tracker of one run. This base class records nothing.

    A context manager: leaving it closes the tracker, and marks the run as failed after an exception.
    """

    id: str | None = None  # identifies the tracked run, to continue it after a resume

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(_exit_code(error))

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Record the metrics of a step."""

    def rollouts(self, step: int, trees: Sequence[Mapping[str, Any]]) -> None:
        """Record the rollouts of a step: the lines of its file in ``rollouts/``, whole trees with all their turns."""

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Record the summary of the run."""

    def close(self, exit_code: int) -> None:
        """Close the tracker. ``exit_code`` is the exit code of the run."""


class TrackerSettings(Section, ABC):
    """Settings of a tracker."""

    @abstractmethod
    def open(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> Tracker:
        """Start tracking a run, or continue the tracked run with this ``id``."""


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
