"""``metrics.jsonl``: one flat JSON object per step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from src.utils.files import write_text


class MetricsFile:
    """Appends the metrics of each step and syncs them to the disk. A context manager that closes the file.

    ``repaired`` says what was missing when the file was opened; it is empty if nothing was.
    """

    def __init__(self, path: Path, after: int, copy: Path | None = None) -> None:
        """Open for appending. Lines of steps after ``after``, left by a killed run, are dropped.

        Missing or damaged lines up to ``after`` are filled from ``copy``, the file as the last checkpoint saved it.
        """
        self.path, self.repaired = path, ""
        found = _lines(path, after)
        saved = found if copy is None or not copy.exists() else _lines(copy, after)
        if gap := [
            step for step in range(1, after + 1) if step not in found or found[step] != saved.get(step, found[step])
        ]:
            unknown = [step for step in gap if step not in saved]
            self.repaired = f"{path}: {_spoken(gap)} missing or damaged"
            self.repaired += "; filled from the checkpoint's copy" if len(unknown) < len(gap) else ""
            self.repaired += f"; {_spoken(unknown)} lost, since no checkpoint has a copy" if unknown else ""
        kept = {**found, **saved}
        write_text(path, "".join(kept[step] for step in sorted(kept)))
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append the metrics of a step, which reach the disk before a checkpoint of this step does."""
        self._file.write(json.dumps(dict(metrics), allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def last(self) -> dict[str, Any]:
        """Return the metrics of the last line; empty if there is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return dict(json.loads(lines[-1])) if lines else {}


class NoMetrics(MetricsFile):
    """Metrics of a process that does not write the run directory: not recorded."""

    def __init__(self) -> None:
        """Open no file."""
        self.repaired = ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close no file."""

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Record nothing."""

    def last(self) -> dict[str, Any]:
        """Return no metrics."""
        return {}


def _lines(path: Path, after: int) -> dict[int, str]:
    """Read the intact lines of steps up to ``after``, by step."""
    lines = {}
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            step = json.loads(line)["step"]
        except (ValueError, TypeError, KeyError):  # cut by a kill, or damaged
            continue
        if step <= after:
            lines[step] = line.decode() + "\n"
    return lines


def _spoken(steps: Sequence[int]) -> str:
    """Name the lines of some steps, shortened: ``the lines of steps 1, 2, 3 and 7 more are``."""
    shown, more = ", ".join(map(str, steps[:3])), len(steps) - 3
    if len(steps) == 1:
        return f"the line of step {shown} is"
    return f"the lines of steps {shown}{f' and {more} more' if more > 0 else ''} are"
