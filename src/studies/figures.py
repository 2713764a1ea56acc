"""Figures of further evaluations: accuracy against the number of rounds, or from test split to test split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.reporting import plots
from src.reporting import tables as results
from src.reporting.evaluations import Name
from src.reporting.looks import look
from src.studies.settings import BASE
from src.utils.tables import counted

ENOUGH = 3
"""Fewest places on an axis that are worth a figure."""


MOST_LINES = 8
"""Most lines of a panel that can be told apart."""

DARK = 0.55
"""Accuracy above which a cell is dark, so that its number is white."""


class Point(NamedTuple):
    """One accuracy: of which run, in which panel, at which place of the axis, and its summaries by seed."""

    run: str
    panel: str | int
    place: str | int
    summaries: list[Mapping[str, Any]]


def across(name: str, found: Mapping[tuple[str, Name], Mapping[int, tuple[Path, Mapping[str, Any]]]]) -> Figure | None:
    """Accuracies of an evaluation, one line per run with 95 % intervals; ``None`` if a table says as much.

    With three numbers of rounds or more, these are the axis, and each test split has a panel. With more test splits
    than numbers of rounds, it is the other way round. Points are joined by lines along numbers only. Many runs
    are the rows of matrices instead, one for each panel.
    """
    splits = list(dict.fromkeys(what.split for _, what in found))
    rounds = sorted({what.rounds for _, what in found})
    by_split = len(splits) > len(rounds)
    panels: list[Any] = rounds if by_split else splits
    places: list[Any] = splits if by_split else rounds
    if len(places) < ENOUGH:
        return None
    points = []
    for (run, what), by_seed in found.items():
        panel, place = (what.rounds, what.split) if by_split else (what.split, what.rounds)
        points.append(Point(run, panel, place, [summary for _, summary in by_seed.values()]))
    runs = list(dict.fromkeys(point.run for point in points))
    joined = not by_split or all(split[-1].isdigit() for split in splits)
    many = len(runs) > MOST_LINES
    with plots.style():
        height = 1.4 + 0.28 * len(runs) if many else 4.0
        figure = Figure(figsize=(plots.WIDTH, height + 0.6 * by_split), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            own = [point for point in points if point.panel == panel]
            for index, run in enumerate(() if many else runs):
                shift = None if joined else 0.18 * (index - (len(runs) - 1) / 2)
                _draw(axes, [point for point in own if point.run == run], places, index, shift)
            if many:
                _matrix(axes, own, places, runs)
            names = [str(place) for place in places]
            axes.set_xticks(range(len(places)), names, rotation=90 if by_split else 0)
            title = counted(panel, "round") if by_split else str(panel)
            counts = sorted({one["problems"] for point in own for one in point.summaries})
            problems = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
            axes.set(title=f"{title}, {problems} problems", xlabel="test split" if by_split else "rounds at evaluation")
        seeds = {run: max(len(point.summaries) for point in points if point.run == run) for run in runs}
        if many:
            figure.axes[0].set_yticks(range(len(runs)), [plots.named(in_words(run), seeds[run]) for run in runs])
        else:
            figure.axes[0].set(ylabel="accuracy (%), 95 % intervals")
            figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
            plots.legend(figure, [plots.handle(in_words(run), seeds[run], index) for index, run in enumerate(runs)])
        unit = "accuracy in %" if many else "accuracy"
        figure.suptitle(f"Evaluation {name}: {unit}", x=0.01, ha="left", fontsize=10.5)
    return figure


def in_words(run: str) -> str:
    """The name of an evaluated policy in figures."""
    return "base, before training" if run == BASE else run


def _matrix(axes: Axes, points: list[Point], places: list[Any], runs: list[str]) -> None:
    """Mean accuracies, runs by places: a number and its shade in each cell."""
    cells = np.full((len(runs), len(places)), np.nan)
    for point in points:
        mean = results.over_runs(point.summaries).estimate
        row, column = runs.index(point.run), places.index(point.place)
        cells[row, column] = mean
        axes.text(column, row, f"{100 * mean:.1f}", ha="center", va="center", color="white" if mean > DARK else "black")
    axes.imshow(cells, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)


def _draw(axes: Axes, points: list[Point], places: list[Any], index: int, shift: float | None) -> None:
    """The accuracies of a run with their intervals: joined by a line, or ``shift`` beside their places."""
    found = {point.place: results.over_runs(point.summaries) for point in points}
    at = [number for number, place in enumerate(places) if place in found]
    values = [found[places[number]] for number in at]
    style = look(index).line | ({} if shift is None else {"linestyle": ""})
    plots.intervals(axes, [number + (shift or 0.0) for number in at], values, markersize=4.5, elinewidth=0.8, **style)
