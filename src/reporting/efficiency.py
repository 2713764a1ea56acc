"""Plot of validation accuracy against what training cost: problems, generated tokens, and seconds."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.reporting import plots
from src.reporting.looks import look
from src.reporting.runs import Group, Run, step_seconds
from src.reporting.series import Points, validation, validation_title

COSTS: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "problems": lambda line: line.get("problems_seen", 0),
    "generated tokens (thousands)": lambda line: line.get("tokens/generated", 0) / 1000,
    "seconds": step_seconds,
}
"""Costs by name. Problems are counted from the start of training, the others by step."""


def enough(groups: Sequence[Group]) -> bool:
    """Whether a group was validated three times or more, so that its accuracy has a course."""
    return any(len(validation(group).mean) >= 3 for group in groups)


def spent(run: Run, cost: str) -> Points:
    """What a run had cost after each step."""
    values = [COSTS[cost](line) for line in run.metrics]
    totals = values if cost == "problems" else itertools.accumulate(values)
    return {line["step"]: total for line, total in zip(run.metrics, totals, strict=True)}


def efficiency(groups: Sequence[Group]) -> Figure:
    """Validation accuracy against each cost: means over seeds with 95 % intervals, up to each group's own end."""
    with plots.style():
        figure = Figure(figsize=(plots.WIDTH, 3.8), layout="constrained")
        panels = figure.subplots(1, len(COSTS), sharey=True)
        for index, group in enumerate(groups):
            found, line = validation(group), look(index).line
            for axes, cost in zip(panels, COSTS, strict=True):
                runs = [spent(run, cost) for run in group.runs]
                at = {step: statistics.fmean(run[step] for run in runs) for step in found.mean}
                axes.plot([*at.values()], [*found.mean.values()], linewidth=2.0, markersize=5, markevery=2, **line)
                low, high = ([getattr(found.intervals[step], end) for step in at] for end in ("low", "high"))
                axes.fill_between([*at.values()], low, high, color=look(index).colour, alpha=0.15, linewidth=0)
        for axes, cost in zip(panels, COSTS, strict=True):
            axes.set(xlabel=cost)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
        panels[0].set(ylabel="accuracy (%)")
        panels[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        panels[0].set_title(f"{validation_title(groups)}, 95 % intervals")
        plots.legend(figure, plots.handles_of(groups))
    return figure
