"""What a person sees while a run lasts, and at its end."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table


class Display:
    """Progress bars on a terminal; elsewhere a line now and then."""

    def __init__(self, steps: int) -> None:
        self.console = Console(stderr=False, width=None if sys.stdout.isatty() else 160)
        self.steps = steps
        self.live = self.console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.training: TaskID | None = None
        self.begun = time.perf_counter()

    def __enter__(self) -> Display:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        """A line of text."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def train(self, done: int) -> None:
        """The training begins, ``done`` steps in."""
        self.begun, self.first = time.perf_counter(), done
        self.training = self.bars.add_task("training", total=self.steps, completed=done, note="")

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A training step is complete."""
        step = metrics["step"]
        note = (
            f"reward {metrics['reward']:.3f}  accuracy {metrics['accuracy']:.1%}  "
            f"{metrics['tokens_per_second']:,.0f} tokens/s"
        )
        if "validation/accuracy" in metrics:
            note += f"  validation {metrics['validation/accuracy']:.1%}"
        if self.training is not None:
            self.bars.update(self.training, completed=step, note=note)
        if not self.live and (step % 10 == 0 or step == self.steps or "validation/accuracy" in metrics):
            left = (time.perf_counter() - self.begun) / max(1, step - self.first) * (self.steps - step)
            self.note(f"step {step}/{self.steps}  {note}  {left:.0f} s left")

    def evaluation(self, name: str, problems: int) -> Callable[[int], None]:
        """An evaluation begins; call the result with the number of problems just done."""
        task = self.bars.add_task(f"evaluate {name}", total=problems, note="")
        if not self.live:
            self.note(f"evaluating {name}: {problems} problems")
        return lambda count: self.bars.advance(task, count)


def show_results(run: Path, summary: Mapping[str, Any], question: str) -> None:
    """The short table at the end: before, after, intervals; where the files are, and how to look closer."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    evaluations = summary["evaluations"]
    table = Table(title="Held-out accuracy, 95 % intervals")
    for heading in ("test split", "base", "trained", "change", "tokens an answer"):
        table.add_column(heading)
    for name, after in evaluations["after"].items():
        before, change = evaluations["before"].get(name), evaluations["change"].get(name)
        tokens = f"{after['tokens_per_answer']:.1f}"
        table.add_row(
            name,
            _percent(before) if before else "-",
            _percent(after),
            f"{100 * change['estimate']:+.1f} [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]"
            if change
            else "-",
            f"{before['tokens_per_answer']:.1f} -> {tokens}" if before else tokens,
        )
    console.print(table)
    shown = run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
    console.print(f"{summary['wall_clock_seconds']:.0f} s. Everything is in {shown}", highlight=False, soft_wrap=True)
    command = f"python -m src.solve run={shown} {shlex.quote('question=' + question)}"
    console.print(f"Look closer: {command}", highlight=False, soft_wrap=True, markup=False)


def show_evaluations(summaries: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Accuracies of ``src.evaluate``, and where the records are."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title="Accuracy, 95 % intervals")
    for heading in ("test split", "accuracy", "pass@k", "majority", "tokens an answer", "problems x samples"):
        table.add_column(heading)
    for name, summary in summaries.items():
        passes = "  ".join(f"@{k} {100 * value:.1f} %" for k, value in summary["pass_at"].items())
        size = f"{summary['problems']} x {summary['samples']}"
        majority = f"{100 * summary['majority']:.1f} %"
        table.add_row(name, _percent(summary), passes, majority, f"{summary['tokens_per_answer']:.1f}", size)
    console.print(table)
    console.print(f"Every round of every answer is in {folder}", highlight=False, soft_wrap=True)


def _percent(result: Mapping[str, Any]) -> str:
    return f"{100 * result['accuracy']:.1f} % [{100 * result['low']:.1f}, {100 * result['high']:.1f}]"
