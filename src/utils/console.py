"""Console output: progress bars while a command runs and result tables at its end, readable at 80 columns."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from src.utils.floor import FLOOR, change_is_below, marked

PLAIN_WIDTH = 120
"""Width in columns if the output is not a terminal."""

BAR_WIDTH = 10
NARROW = 100
"""Width in columns below which tables omit details that the result files contain."""


class Console:
    """Progress bars on a terminal, or a log line every few steps elsewhere. A context manager that ends the bars."""

    def __init__(self, steps: int = 0) -> None:
        self.console = RichConsole(stderr=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        self.steps = steps
        self.live = self.console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=BAR_WIDTH, table_column=Column(min_width=BAR_WIDTH)),
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=9)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
            TextColumn("left", table_column=Column(no_wrap=True, min_width=4)),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self.console,
            disable=not self.live,
        )
        self.training: TaskID | None = None
        self.begun, self.first = time.perf_counter(), 0

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        """Print one line of text."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def train(self, done: int) -> None:
        """Show that training begins after ``done`` completed steps."""
        self.begun, self.first = time.perf_counter(), done
        self.training = self.bars.add_task("training", total=self.steps, completed=done, note="")

    def step(self, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of a completed training step."""
        step = metrics["step"]
        if not step:  # the policy before training has been validated, and nothing else
            self.note(f"step 0/{self.steps}  validation {metrics['validation/accuracy']:.1%}")
            return
        note = f"reward {metrics['reward']:.3f}  accuracy {metrics['accuracy']:.1%}"
        if "validation/accuracy" in metrics:
            note += f"  validation {metrics['validation/accuracy']:.1%}"
        if self.training is not None:
            self.bars.update(self.training, completed=step, note=note)
        if not self.live and (step % 10 == 0 or step == self.steps or "validation/accuracy" in metrics):
            left = (time.perf_counter() - self.begun) / max(1, step - self.first) * (self.steps - step)
            speed = f"{metrics['tokens_per_second']:,.0f} tokens/s"
            self.note(f"step {step}/{self.steps}  {left:.0f} s left  {note}  {speed}")

    def evaluation(self, check: Callable[[], None]) -> Callable[[str, int], Callable[[int], None]]:
        """Return a progress callback for evaluations. It calls ``check``, which may raise to stop, after each chunk."""

        def show(name: str, problems: int) -> Callable[[int], None]:
            if not self.live:
                self.note(f"evaluating {name}: {problems} problems")
            task = self.bars.add_task(name, total=problems, note="")

            def advance(count: int) -> None:
                check()
                self.bars.update(task, advance=count)

            return advance

        return show

    def results(self, summary: Mapping[str, Any], run: Path, question: str) -> None:
        """Print the accuracies of a finished run and a command to inspect it."""
        evaluations = summary["evaluations"]
        before, changes = (_by_name(evaluations[part]) for part in ("before", "change"))
        wide = self.console.width >= NARROW
        shown = table("Held-out accuracy in %, 95 % intervals")
        headings = [
            "test split",
            "rounds" if wide else "n",
            "base",
            "trained",
            "change",
            *(["tokens per answer"] if wide else []),
        ]
        for heading in headings:
            shown.add_column(heading, no_wrap=heading != "test split")
        benchmarks = {after["benchmark"] for after in evaluations["after"]}
        below = []
        for after in evaluations["after"]:
            base, change = before.get(_name(after)), changes.get(_name(after))
            split = after["split"] if len(benchmarks) == 1 else f"{after['benchmark']}/{after['split']}"
            moved = f"{100 * change['estimate']:+.1f} {_interval(change, '+')}" if change else "-"
            below.append(change_is_below(change, base, after))
            tokens = f"{after['tokens_per_answer']:.1f}"
            if base:
                tokens = f"{base['tokens_per_answer']:.1f} -> {tokens}"
            cells = [split, str(after["rounds"]), percent(base) if base else "-", percent(after)]
            cells.append(marked(moved, below[-1]))
            shown.add_row(*cells, *([tokens] if wide else []))
        self.console.print(shown)
        if any(below):
            self.note(FLOOR)
        folder = run.relative_to(Path.cwd()) if run.is_absolute() and run.is_relative_to(Path.cwd()) else run
        self.note(f"{summary['wall_clock_seconds']:.0f} s. Everything is in {folder}")
        self.note(f"Look closer: python -m src.solve run={folder} {shlex.quote('question=' + question)}")

    def evaluations(self, summaries: Sequence[Mapping[str, Any]], folder: Path) -> None:
        """Print the accuracies of ``src.evaluate``, the settings that differ from the run, and the results folder."""
        wide = self.console.width >= NARROW
        shown = table("Accuracy in %, 95 % intervals")
        headings = [
            "test split",
            "rounds" if wide else "n",
            "accuracy",
            *(["pass@k"] if wide else []),
            "majority",
            "tokens",
            "problems",
        ]
        for heading in headings:
            shown.add_column(heading, no_wrap=heading != "test split")
        for summary in summaries:
            passes = "  ".join(f"@{k} {100 * value:.1f}" for k, value in summary["pass_at"].items())
            size = f"{summary['problems']} x {summary['samples']}"
            cells = [f"{summary['benchmark']}/{summary['split']}", str(summary["rounds"]), percent(summary)]
            cells += [*([passes] if wide else []), f"{100 * summary['majority']:.1f}"]
            shown.add_row(*cells, f"{summary['tokens_per_answer']:.1f}", size)
        self.console.print(shown)
        if graphs := [summary for summary in summaries if "graph" in summary]:
            self.console.print(_aggregations(graphs))
        for summary in summaries:
            if (control := summary.get("control")) and control["covered"] < control["problems"]:
                self.note(
                    f"{summary['split']}: {control['covered']} of {control['problems']} problems have enough drafts "
                    f"for control.sources={control['sources']}; the others are left out"
                )
        for name, values in summaries[-1].get("changed", {}).items() if summaries else ():
            self.note(f"changed from the run: {name}={values['here']} (in the run: {values['run']})")
        self.note(f"All answers, round by round, are in {folder}")


def table(title: str) -> Table:
    """Create a table without a frame, with two spaces between columns."""
    return Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)


def _aggregations(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """How answers depend on the drafts that they read."""
    shown = table("Right if all drafts are wrong, wrong if some are right, in %")
    for heading in ("test split", "n", "if all wrong", "if some right", "draft vote", "in sequence"):
        shown.add_column(heading, no_wrap=heading != "test split")
    for summary in summaries:
        graph = summary["graph"]
        shares = (graph[name] for name in ("right_if_all_wrong", "wrong_if_some_right"))
        cells = [f"{100 * share['estimate']:.1f} of {share['total']}" if share else "-" for share in shares]
        vote = f"{100 * graph['draft_vote']['accuracy']:.1f}" if graph["draft_vote"] else "-"
        place = f"{summary['benchmark']}/{summary['split']}", str(summary["rounds"])
        shown.add_row(*place, *cells, vote, f"{graph['sequential_tokens']:.1f}")
    return shown


def _name(result: Mapping[str, Any]) -> tuple[Any, ...]:
    return result["benchmark"], result["split"], result["rounds"]


def _by_name(results: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    return {_name(result): result for result in results}


def percent(result: Mapping[str, Any]) -> str:
    """An evaluation's accuracy in %, with its interval."""
    return f"{100 * result['accuracy']:.1f} {_interval(result)}"


def _interval(value: Mapping[str, Any], sign: str = "") -> str:
    return f"[{100 * value['low']:{sign}.1f}, {100 * value['high']:{sign}.1f}]"
