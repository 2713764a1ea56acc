"""Profiling of one training step: a Chrome trace, and a table of time by phase and kind of operation."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile, record_function

from src.utils.files import write_text
from src.utils.tables import markdown

PREFIX = "phase: "
STEP = "whole step"
ELSE = "reward, credit and writing"
"""Name for the time of a step outside its marked phases."""

KINDS = (
    ("attention", r"attention|flash"),
    ("matrix products", r"mm$|mm_out|linear|matmul|mkldnn|einsum"),
    ("softmax and sampling", r"softmax|logsumexp|multinomial|cumsum|searchsorted|gather|sort|topk"),
    ("optimizer", r"[Oo]ptimizer|[Aa]dam|foreach|addcdiv|addcmul|lerp"),
    (
        "copies and layout",
        r"copy|clone|contiguous|cat$|stack|index|scatter|fill|zero|ones|empty|resize|pad|slice|select|view|reshape|"
        r"transpose|permute|::t$|squeeze|expand|repeat|split|unbind|narrow|stride|alias|detach|::to$|arange",
    ),
    ("autograd's own work", r"autograd::|Backward"),
    ("elementwise and sums", r"^aten::"),
)
"""Kinds of operations with a pattern of operation names; the first match counts."""

OTHER, OUTSIDE = "other", "Python and compiled code"


@contextmanager
def profiled(folder: Path, wanted: bool) -> Iterator[None]:
    """Profile the block into ``trace.json`` and ``profile.md`` and print the table; do nothing unless ``wanted``."""
    if not wanted:
        yield
        return
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities) as profiler, record_function(PREFIX + STEP):
        yield
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(folder / ".trace.json.tmp"))
    (folder / ".trace.json.tmp").replace(folder / "trace.json")
    lines = table(milliseconds(profiler.events() or ()))
    cells = markdown(lines[0], lines[1:])
    write_text(folder / "profile.md", f"Milliseconds of the host in each phase, by kind of operation\n\n{cells}\n")
    _show(lines, folder)


def kind(name: str) -> str:
    """Return the kind of operation of a name in the profile."""
    return next((group for group, pattern in KINDS if re.search(pattern, name)), OTHER)


def milliseconds(events: Iterable[Any]) -> dict[str, dict[str, float]]:
    """Sum the self time of operations in milliseconds, by phase and kind: ``{phase: {kind: ms}}``.

    Self time excludes called operations. The rest of a phase is Python and code that torch does not record. An event
    has ``name``, ``time_range`` (``start`` and ``end``) and ``self_cpu_time_total``, in microseconds.
    """
    events = list(events)
    spans = [
        (event.name.removeprefix(PREFIX), event.time_range.start, event.time_range.end)
        for event in events
        if event.name.startswith(PREFIX)
    ]
    begin, end = next((begin, end) for name, begin, end in spans if name == STEP)
    marked = [span for span in spans if span[0] != STEP]
    lengths: dict[str, float] = {}
    for name, start, stop in marked:
        lengths[name] = lengths.get(name, 0.0) + stop - start
    lengths[ELSE] = end - begin - sum(lengths.values())
    result: dict[str, dict[str, float]] = {name: {} for name in lengths}
    for event in events:
        if event.name.startswith(PREFIX) or not begin <= event.time_range.start < end:
            continue
        start = event.time_range.start
        place = next((name for name, first, last in marked if first <= start < last), ELSE)
        group = kind(event.name)
        result[place][group] = result[place].get(group, 0.0) + event.self_cpu_time_total / 1000
    for name, length in lengths.items():
        result[name][OUTSIDE] = max(0.0, length / 1000 - sum(result[name].values()))
    return result


def table(times: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Format times as rows: headings, one row per kind (longest first), and sums. Percentages are per column."""
    sums = {name: sum(parts.values()) for name, parts in times.items()}
    whole = sum(sums.values())
    totals: dict[str, float] = {}
    for parts in times.values():
        for group, value in parts.items():
            totals[group] = totals.get(group, 0.0) + value
    lines = [["", *times, STEP]]
    for group in sorted(totals, key=lambda group: -totals[group]):
        cells = [_cell(parts.get(group, 0.0), sums[name]) for name, parts in times.items()]
        lines.append([group, *cells, _cell(totals[group], whole)])
    return [*lines, ["all", *(_cell(value, whole) for value in sums.values()), f"{whole:.1f}"]]


def _cell(value: float, whole: float) -> str:
    return f"{value:.1f} ({100 * value / whole:.0f} %)" if value and whole else "-"


def _show(lines: list[list[str]], folder: Path) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    rich = Table(title="Milliseconds by phase and kind of operation")
    for place, heading in enumerate(lines[0]):
        rich.add_column(heading, justify="right" if place else "left")
    for line in lines[1:]:
        rich.add_row(*line)
    console.print(rich)
    console.print(
        f"The same and trace.json (open it at https://ui.perfetto.dev) are in {folder}", highlight=False, soft_wrap=True
    )
