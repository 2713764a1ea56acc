"""The record of a sweep's job in its directory: what became of it, also if it ran in another process."""

from __future__ import annotations

import gc
import json
import math
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from src.config.ending import ended
from src.types import InputError
from src.utils.files import write_json
from src.utils.signals import TIME_LIMIT

RECORD = "job.json"
"""File of a sweep job's directory: its number, overrides, status, exit code and the first line of its error."""


def attempted(action: Callable[[], float | None], directory: Path, number: int, overrides: Sequence[str]) -> float:
    """Perform a job of a sweep and record what became of it. Returns the job's objective, NaN without one.

    An error is printed and recorded, and does not end the sweep; nor does the job's time limit.

    Raises:
        SystemExit: a signal stopped the job, and ends the sweep.
    """
    record: dict[str, Any] = {"number": number, "overrides": list(overrides)}
    results: list[float | None] = []
    errors: list[BaseException] = []

    def watched() -> None:
        try:
            write_json(directory / RECORD, {**record, "status": "running"})
            results.append(action())
        except BaseException as error:
            errors.append(error)
            raise

    try:
        code = ended(watched, directory)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        if code != TIME_LIMIT:
            _write(directory, {**record, "status": "stopped", "exit_code": code})
            raise
    except Exception:
        traceback.print_exc()
        code = 1
    if code:
        said = "stopped by train.max_time" if code == TIME_LIMIT else first_line(errors[0])
        _write(directory, {**record, "status": "failed", "exit_code": code, "error": said})
        errors.clear()  # its traceback holds the job's weights
        gc.collect()
        return math.nan
    write_json(directory / RECORD, {**record, "status": "complete"})
    return math.nan if results[0] is None else results[0]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, after its class unless it is invalid input or a non-finite number."""
    text = error.problems[0] if isinstance(error, InputError) else str(error)
    line = (text.splitlines() or [""])[0]
    return line if isinstance(error, (InputError, FloatingPointError)) else f"{type(error).__name__}: {line}"


def read(directory: Path) -> dict[str, Any]:
    """Read the record of a job; empty if it has none, or a damaged one."""
    try:
        record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(directory: Path, record: dict[str, Any]) -> None:
    """Write the record of a job that failed; the disk may be the reason, and the error has been printed."""
    try:
        write_json(directory / RECORD, record)
    except OSError as error:
        print(f"{directory / RECORD} cannot be written ({error.strerror}); the table shows this job as cut")
