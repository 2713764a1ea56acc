"""Output of the results: tables on the screen, Markdown and JSON in the run directory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from src.speed.base import Measured
from src.speed.timing import coverage
from src.utils import tables
from src.utils.files import write_json, write_text

LEFT = ("case", "method", "phase", "what", "size")
"""Headings of the left-aligned columns."""


def show(name: str, measured: Measured) -> None:
    """Print a section."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in measured.tables:
        rich = RichTable(title=table.title)
        for heading in table.headings:
            rich.add_column(heading, justify="left" if heading in LEFT else "right")
        for row in table.rows:
            rich.add_row(*row)
        console.print(rich)
    for note in [measured.about, *measured.notes]:
        console.print(f"{name}: {note}", highlight=False, soft_wrap=True, markup=False)


def write(run: Path, about: Mapping[str, Any], found: Mapping[str, Measured]) -> None:
    """Write ``speed.json`` and ``speed.md`` atomically; called after every section."""
    sections = {
        name: {"about": measured.about, "notes": measured.notes, **measured.numbers} for name, measured in found.items()
    }
    write_json(run / "speed.json", {**about, "sections": sections})
    write_text(run / "speed.md", markdown(about, found))


def markdown(about: Mapping[str, Any], found: Mapping[str, Measured]) -> str:
    """The results as Markdown: the machine, then every section."""
    machine, repeats = about["environment"], about["settings"]["repeats"]
    confidence = f" (a {100 * coverage(repeats):.0f} % confidence interval of the median)" if repeats > 1 else ""
    plural = "" if repeats == 1 else "s"
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        "# Speed and memory",
        "",
        f"`{about['command']}`",
        "",
        f"{about['model']} ({about['dtype']}) on {machine['processor']} ({machine['device']}), {machine['cores']} "
        f"cores, {machine['threads']} threads, {machine['instructions']}; {versions}, Python {machine['python']}; "
        f"commit {machine['commit']}, seed {about['seed']}; load average {machine['load']:.1f} at the start.",
        "",
        f"Compared methods alternate in one process, {repeats} repeat{plural} each. Seconds are medians. A ratio is "
        "the median of the ratios of adjacent repeats; brackets give the smallest and the largest of "
        f"them{confidence}.",
    ]
    for name, measured in found.items():
        lines += ["", f"## {name}", "", measured.about]
        for table in measured.tables:
            lines += ["", f"**{table.title}**", "", tables.markdown(table.headings, table.rows)]
        if measured.notes:
            lines += ["", *(f"- {note}" for note in measured.notes)]
    return "\n".join(lines) + "\n"
