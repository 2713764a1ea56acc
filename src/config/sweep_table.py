"""The table at the end of a sweep: one row a job, with its configuration, accuracy, tokens, time and directory."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config import job_records
from src.utils.files import read_jsonl, write_text

TABLE = "table.csv"
"""File of a sweep's directory: its table with all evaluations and unrounded numbers."""

LONGEST = 26
"""Number of characters of a directory's name that are shown; the job's number begins it, and the file has all."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        status: complete, failed, stopped (by a signal), cut (killed), or not run.
        summary: content of ``summary.json``; empty unless a training is complete.
        tokens: tokens generated in training.
    """

    number: int
    overrides: Sequence[str]
    directory: Path
    status: str
    error: str
    code: int
    summary: Mapping[str, Any]
    tokens: int | None

    @property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """Evaluations of the trained policy."""
        return list(self.summary.get("evaluations", {}).get("after", []))

    @property
    def settings(self) -> dict[str, str]:
        """Values of the job's overrides by name, without those of Hydra's own settings."""
        pairs = (text.lstrip("+~").partition("=") for text in self.overrides)
        return {key: value.strip("\"'") for key, _, value in pairs if not key.startswith("hydra")}


def outcome(number: int, overrides: Sequence[str], directory: Path) -> Outcome:
    """Read what became of a job from its directory."""
    record, summary, tokens = job_records.read(directory), dict[str, Any](), None
    if (directory / "summary.json").is_file():
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    if summary and (metrics := directory / "metrics.jsonl").is_file():
        tokens = sum(line.get("tokens/generated", 0) for line in read_jsonl(metrics))
    status = record.get("status", "not run")
    if summary.get("complete"):
        status = "complete"
    elif status == "running":
        status = "cut"
    failed = status == "failed"
    code = int(record.get("exit_code", 1)) if failed else 0
    error = str(record.get("error", "")) if failed else ""
    return Outcome(number, overrides, directory, status, error, code, summary, tokens)


def varying(outcomes: Sequence[Outcome]) -> list[str]:
    """Names of the overrides that differ between the jobs; all names if none differs."""
    names = list(dict.fromkeys(name for one in outcomes for name in one.settings))
    return [name for name in names if len({one.settings.get(name) for one in outcomes}) > 1] or names


def show(outcomes: Sequence[Outcome], place: Path) -> None:
    """Print the table of a sweep, and the failed jobs with the first line of each error."""
    from rich.console import Console as RichConsole

    from src.utils.console import PLAIN_WIDTH, percent, table

    names = varying(outcomes)
    done = sum(one.status == "complete" for one in outcomes)
    console = RichConsole()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    splits = list(dict.fromkeys((one["benchmark"], one["split"]) for job in outcomes for one in job.evaluations))
    single = len({benchmark for benchmark, _ in splits}) == 1
    console.print(f"\n{done} of {len(outcomes)} jobs complete", highlight=False)
    shown = table("Held-out accuracy in %, 95 % intervals")
    for heading in ("job", "configuration"):
        shown.add_column(heading)
    for benchmark, split in splits:
        shown.add_column(split if single else f"{benchmark}/{split}", no_wrap=True)
    for heading in ("tokens", "time"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("directory", no_wrap=True)
    for one in outcomes:
        last = {(result["benchmark"], result["split"]): result for result in one.evaluations}
        cells = [percent(last[split]) if split in last else "-" for split in splits]
        if one.status != "complete":
            cells = [one.status, *cells[1:]] if cells else []
        tokens = "-" if one.tokens is None else f"{one.tokens:,}"
        seconds = f"{one.summary['wall_clock_seconds']:.0f} s" if one.summary else "-"
        label = " ".join(f"{name}={_short(one.settings[name])}" for name in names if name in one.settings)
        where = _below(place, one.directory)
        where = where if len(where) <= LONGEST else where[: LONGEST - 1] + "…"
        shown.add_row(str(one.number), label, *cells, tokens, seconds, where)
    console.print(shown, markup=False)
    if failed := [one for one in outcomes if one.status == "failed"]:
        console.print(f"\n{len(failed)} failed", highlight=False)
        errors = table("")
        for heading in ("job", "exit code", "first line of the error"):
            errors.add_column(heading, overflow="fold")
        for one in failed:
            errors.add_row(str(one.number), str(one.code), one.error)
        console.print(errors, markup=False)


def write(outcomes: Sequence[Outcome], place: Path) -> None:
    """Write the table of a sweep with all evaluations and unrounded numbers."""
    names = varying(outcomes)
    found = [f"{one['benchmark']}/{one['split']}/rounds{one['rounds']}" for job in outcomes for one in job.evaluations]
    columns = [f"{name} {part}" for name in dict.fromkeys(found) for part in ("accuracy", "low", "high")]
    text = io.StringIO()
    head = ["job", "status", *names, *columns, "validation", "tokens", "seconds", "directory", "error"]
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    for one in outcomes:
        row: dict[str, Any] = {"job": one.number, "status": one.status, "error": one.error}
        row |= {name: one.settings[name] for name in names if name in one.settings}
        for result in one.evaluations:
            name = f"{result['benchmark']}/{result['split']}/rounds{result['rounds']}"
            row |= {f"{name} {part}": result[part] for part in ("accuracy", "low", "high")}
        if one.summary:
            final = one.summary["best"] or {"accuracy": one.summary["final"].get("validation/accuracy", "")}
            row |= {"validation": final["accuracy"], "tokens": one.tokens}
            row["seconds"] = one.summary["wall_clock_seconds"]
        row["directory"] = _below(place, one.directory)
        writer.writerow(row)
    write_text(place / TABLE, text.getvalue())


def _short(value: str) -> str:
    """Shorten a number with many digits, as a search makes them."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d\.\d{6,}(e-?\d+)?", value) else value


def _below(place: Path, directory: Path) -> str:
    inside = directory.resolve().is_relative_to(place.resolve())
    return str(directory.resolve().relative_to(place.resolve()) if inside else directory)
