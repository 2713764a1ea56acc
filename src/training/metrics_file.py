"""``metrics.jsonl``: one flat JSON object per step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from src.utils.files import write_text


class MetricsFile:
    """Appends the metrics of each step and flushes them. A context manager that closes the file."""

    def __init__(self, path: Path, after: int) -> None:
        """Open for appending. Lines of steps after ``after``, left by a killed run, are dropped."""
        self.path = path
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                if json.loads(line)["step"] <= after:
                    kept.append(line + "\n")
            except json.JSONDecodeError:
                break  # the incomplete last line of a killed run
        write_text(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append the metrics of a step."""
        self._file.write(json.dumps(dict(metrics), allow_nan=False) + "\n")
        self._file.flush()

    def last(self) -> dict[str, Any]:
        """Return the metrics of the last line; empty if there is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return dict(json.loads(lines[-1])) if lines else {}


class NoMetrics(MetricsFile):
    """Metrics of a process that does not write the run directory: not recorded."""

    def __init__(self) -> None:
        """Open no file."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close no file."""

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Record nothing."""

    def last(self) -> dict[str, Any]:
        """Return no metrics."""
        return {}
