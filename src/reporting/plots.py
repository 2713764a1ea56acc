"""Plots of runs: training curves, and test accuracy before and after training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.evaluation.statistics import Interval
from src.reporting.looks import GREY, GREYED, Look, look
from src.reporting.runs import Group
from src.reporting.series import (
    Points,
    Series,
    by_round,
    longest,
    smoothed,
    smoothing,
    training,
    validated,
    validated_over,
    validation,
    validation_title,
    window,
)
from src.reporting.tables import Result, name_of_test
from src.utils.tables import counted

WIDTH = 9.0
"""Width of figures in inches; 900 pixels at 100 dots per inch, for which the font sizes are chosen."""

LINE = 0.21
"""Height of a line of the legend in inches."""

BESIDE = 4
"""Most panels of rounds that stand beside each other."""

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "svg.hashsalt": "reporting",
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of all plots; the user's matplotlibrc is ignored."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically as png or svg, by the suffix. Equal figures give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    kind = path.suffix.removeprefix(".")
    with style():
        figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    temporary.replace(path)


def curves(groups: Sequence[Group]) -> Figure:
    """Validation accuracy and training reward against steps; below, tokens per response for each round.

    Each group has a colour, a dash pattern and a marker: thin lines are seeds, the thick line is their mean. Reward and
    tokens are running means.
    """
    name = "completion/round_{}/mean_tokens"
    rounds = max(len(by_round(run, name)) for group in groups for run in group.runs)
    size, smooth = window(groups), smoothing(groups)
    handles = handles_of(groups)
    across, down = min(rounds, BESIDE), math.ceil(rounds / BESIDE)
    heights = 3.4, 2.7 if down == 1 else 2.2 * down
    steps = longest(groups)
    with style():
        height = sum(heights) + LINE * math.ceil(len(handles) / columns(handles))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights, hspace=0.04).flat
        # without validation, there is one panel
        *left, right = upper.subplots(1, 2 if validated(groups) else 1, squeeze=False)[0]
        for index, series in enumerate(training(groups, "reward")):
            _lines(right, series, index, steps)
        for axes in left:
            accuracies = [validation(group) for group in groups]
            for index, series in enumerate(accuracies):
                _validation(axes, series, index, steps)
            title = validation_title(groups) + "\n95 % intervals"
            title += " (dotted: at all steps together)" if any(series.band for series in accuracies) else ""
            axes.set(title=title, xlabel="optimizer step", ylabel="accuracy (%)")
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        title = "Training reward" + (f"\n({smooth})" if smooth else "")
        right.set(title=title, xlabel="optimizer step", ylabel="reward of first responses")
        grid = lower.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        below, unused = grid.flat[:rounds], grid.flat[rounds:]
        for axes in unused:
            axes.remove()
        for number, axes in enumerate(below, 1):
            for index, group in enumerate(groups):
                found: list[Points] = [by_round(run, name).get(number, {}) for run in group.runs]
                if any(found):  # a group with fewer rounds has no line here
                    _lines(axes, smoothed(found, size), index, steps)
            axes.set(title=f"Round {number}")
        lower.supxlabel("optimizer step", fontsize=10)
        lower.supylabel("tokens per response", fontsize=10)
        below[0].set_ylim(bottom=0)
        title = "Tokens per response, by round" + (f" ({smooth})" if smooth else "")
        lower.suptitle(title, x=0.01, ha="left", fontsize=10.5)
        for axes in (*left, right, *below):
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(4 if axes in below else 6, integer=True, steps=(1, 2, 5, 10)))
        legend(figure, handles)
    return figure


def before_after(rows: Sequence[Result]) -> Figure:
    """Test accuracy of the base (hollow) and after training (filled), with 95 % intervals.

    Both are grey if the change is below the measurement floor.
    """
    labels = {row.group: len(row.seed_numbers) for row in rows}
    order = list(labels)
    splits = list(dict.fromkeys(row.split for row in rows))
    tests = sorted({(row.split, row.rounds) for row in rows}, key=lambda test: (splits.index(test[0]), test[1]))
    bands = [[row for row in rows if (row.split, row.rounds) == test] for test in tests]
    most = max(map(len, bands), default=1)  # a band of so many groups has the height 1
    tops = [0.5, *(0.5 - total / most for total in itertools.accumulate(map(len, bands)))]
    centres = [(top + bottom) / 2 for top, bottom in itertools.pairwise(tops)]
    with style():
        figure = Figure(figsize=(WIDTH, 1.3 + 0.25 * len(bands) + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for centre, band in zip(centres, bands, strict=True):
            for place, row in enumerate(sorted(band, key=lambda row: order.index(row.group))):
                height = centre + 0.7 * ((len(band) - 1) / 2 - place) / most
                apart = 0.0 if row.base is None else 0.14 / most  # so that the two intervals do not overlap
                found = look(order.index(row.group)).greyed(row.below_floor)
                _point(axes, row.trained, height - apart, found, filled=True)
                if row.base is not None:
                    _point(axes, row.base, height + apart, found, filled=False)
        axes.set_yticks(centres, [name_of_test(rows, *test, "\n") for test in tests])
        axes.set_ylim(tops[-1], tops[0])
        for top in tops[1:-1]:
            axes.axhline(top, color="#bbbbbb", linewidth=0.8)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        when = "before and after" if any(row.base for row in rows) else "after"
        axes.set(xlabel="accuracy (%)", title=f"Test accuracy {when} training, 95 % intervals")
        grey: Any = {"color": "#444444", "linestyle": "", "marker": "o"}
        handles = [
            Line2D([], [], markerfacecolor="white", label="base", **grey),
            Line2D([], [], label="trained", **grey),
        ][0 if any(row.base for row in rows) else 2 :]
        handles += [
            Line2D([], [], linewidth=2.2, label=named(label, seeds), **{**look(index).line, "linestyle": "-"})
            for index, (label, seeds) in enumerate(labels.items())
        ]
        if any(row.below_floor for row in rows):
            handles.append(Line2D([], [], **{**grey, "color": GREY}, label=GREYED))
        legend(figure, handles)
    return figure


def named(label: str, seeds: int) -> str:
    """A group in a legend, with its number of seeds."""
    return f"{label}{', ' if label else ''}{counted(seeds, 'seed')}"


def handle(label: str, seeds: int, index: int) -> Line2D:
    """The line of a group in a legend."""
    return line(named(label, seeds), index)


def line(label: str, index: int) -> Line2D:
    """A line in a legend, with the look of this index."""
    return Line2D([], [], linewidth=2.2, label=label, markersize=5, **look(index).line)


def handles_of(groups: Sequence[Group]) -> list[Line2D]:
    """The lines of a legend of runs that may be validated over different numbers of rounds."""
    labels = validated_over(groups)
    return [
        handle(label, len(group.runs), index) for index, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


def _lines(axes: Axes, series: Series, index: int, most: int) -> None:
    """Thin lines of the seeds, and the thick line of their mean, with six markers on a line of ``most`` steps."""
    line = look(index).line
    if len(series.seeds) > 1:
        for points in series.seeds:
            axes.plot([*points], [*points.values()], linewidth=0.8, alpha=0.5, **{**line, "marker": ""})
    steps = [*series.mean]
    marked: dict[int, int] = {}  # the first point in each sixth of the axis, and the last one of a short line
    for place, step in enumerate(steps):
        marked.setdefault(6 * step // (most + 1), place)
    every = [*marked.values()] if len(marked) > 1 else [len(steps) - 1] if steps else []
    axes.plot(steps, [*series.mean.values()], linewidth=2.2, markersize=5, markevery=every, **line)


def _validation(axes: Axes, series: Series, index: int, most: int) -> None:
    _lines(axes, series, index, most)
    colour = look(index).colour
    for low_or_high in ("low", "high"):
        ends = {step: getattr(interval, low_or_high) for step, interval in series.band.items()}
        if ends:
            axes.plot([*ends], [*ends.values()], color=colour, linewidth=0.9, linestyle=(0, (1, 2)))
    found: Mapping[int, Interval] = series.intervals
    low, high = ([getattr(one, end) for one in found.values()] for end in ("low", "high"))
    axes.fill_between([*found], low, high, color=colour, alpha=0.15, linewidth=0)


def _point(axes: Axes, value: Interval, height: float, found: Look, filled: bool) -> None:
    axes.errorbar(
        [value.estimate],
        [height],
        xerr=[[value.estimate - value.low], [value.high - value.estimate]],
        fmt=found.marker,
        color=found.colour,
        markerfacecolor=found.colour if filled else "white",
        markersize=6.5 if filled else 5,
        markeredgewidth=1.5,
        zorder=3 if filled else 4,
        elinewidth=1.3,
        capsize=3,
    )


def intervals(axes: Axes, at: Sequence[float], values: Sequence[Interval], **style: Any) -> None:
    """Draw values with their intervals at places of the x axis; ``style`` goes to matplotlib."""
    lower, upper = [one.estimate - one.low for one in values], [one.high - one.estimate for one in values]
    axes.errorbar(at, [one.estimate for one in values], yerr=[lower, upper], linewidth=1.6, capsize=2, **style)


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Add a legend below the plot, with as many columns as fit."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns(handles))


def columns(handles: Sequence[Line2D]) -> int:
    """Columns of a legend that fit into the width of a figure."""
    widest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(len(handles), int(WIDTH / (0.65 + 0.085 * widest))))  # inches: the handle, a letter
