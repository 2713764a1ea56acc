"""Plots of runs: training curves, and test accuracy before and after training."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.evaluation.statistics import Interval
from src.reporting.runs import Group, Run
from src.reporting.tables import Result, combine

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colour-blind-safe palette (https://jfly.uni-koeln.de/color)."""

DASHES = ("-", "--", "-.", ":")
WIDTH = 9.0
"""Width of figures in inches; 900 pixels at 100 dots per inch, for which the font sizes are chosen."""

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

    Each group has a colour: thin lines are seeds, the thick line is their mean. Reward and tokens are running means.
    """
    rounds = max(len(_series(run, "completion/round_{}/mean_tokens")) for group in groups for run in group.runs)
    lengths = [len(run.metrics) for group in groups for run in group.runs]
    window = max(1, max(lengths) // 20)
    most = "up to " if min(lengths) < 4 * window else ""  # short runs are averaged over a quarter of their steps
    smooth = "" if window == 1 else f" (running mean of {most}{window} steps)"
    with style():
        figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
        upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.25, 1), hspace=0.04).flat
        validated = any("validation/accuracy" in line for group in groups for run in group.runs for line in run.metrics)
        # without validation, there is one panel
        *left, right = upper.subplots(1, 2 if validated else 1, squeeze=False)[0]
        for group, look in _looks(groups):
            for axes in left:
                _validation(axes, group, look)
            _lines(
                right, [[(line["step"], line["reward"]) for line in run.metrics] for run in group.runs], look, window
            )
        for axes in left:
            dotted = any("validation/band_low" in run.metrics[-1] for group in groups for run in group.runs)
            title = "Validation accuracy, 95 % intervals"
            title += "; dotted: at all steps together" if dotted and any(len(one.runs) == 1 for one in groups) else ""
            axes.set(title=title, xlabel="optimizer step", ylabel="accuracy (%)")
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        right.set(title=f"Training reward{smooth}", xlabel="optimizer step", ylabel="reward of first responses")
        below = lower.subplots(1, rounds, sharex=True, sharey=True, squeeze=False)[0]
        for number, axes in enumerate(below, 1):
            for group, look in _looks(groups):
                series = [_series(run, "completion/round_{}/mean_tokens").get(number, []) for run in group.runs]
                if any(series):  # a group with fewer rounds has no line here
                    _lines(axes, series, look, window)
            axes.set(title=f"Round {number}", xlabel="optimizer step")
        below[0].set_ylabel("tokens per response")
        below[0].set_ylim(bottom=0)
        lower.suptitle(f"Tokens per response, by round{smooth}", x=0.01, ha="left", fontsize=10.5)
        for axes in (*left, right, *below):
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(4 if axes in below else 6, integer=True, steps=(1, 2, 5, 10)))
        if len(groups) > 1:
            handles = [Line2D([], [], linewidth=2.2, label=group.label, **look) for group, look in _looks(groups)]
            _legend(figure, handles)
    return figure


def before_after(rows: Sequence[Result]) -> Figure:
    """Test accuracy of the base (hollow) and after training (filled), with 95 % intervals."""
    labels = list(dict.fromkeys(row.group for row in rows))
    splits = list(dict.fromkeys(row.split for row in rows))
    tests = sorted({(row.split, row.rounds) for row in rows}, key=lambda test: (splits.index(test[0]), test[1]))
    with style():
        figure = Figure(figsize=(WIDTH, 1.3 + len(tests) * (0.25 + 0.3 * len(labels))), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            place = len(labels) // 2 - labels.index(row.group) - (0 if len(labels) % 2 else 0.5)
            height = -tests.index((row.split, row.rounds)) + 0.7 * place / max(1, len(labels))
            colour = PALETTE[labels.index(row.group) % len(PALETTE)]
            if row.base is not None:
                axes.plot(
                    [row.base.estimate, row.trained.estimate], [height] * 2, color=colour, alpha=0.35, linewidth=4
                )
            _point(axes, row.trained, height, colour, filled=True)
            if row.base is not None:
                _point(axes, row.base, height, colour, filled=False)
        names = [f"{split}, {rounds} round{'s' if rounds > 1 else ''}" for split, rounds in tests]
        axes.set_yticks([-index for index in range(len(tests))], names)
        axes.set_ylim(-len(tests) + 0.5, 0.5)
        for index in range(1, len(tests)):
            axes.axhline(0.5 - index, color="#bbbbbb", linewidth=0.8)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        when = "before and after" if any(row.base for row in rows) else "after"
        axes.set(xlabel="accuracy (%)", title=f"Test accuracy {when} training, 95 % intervals")
        handles = [
            Line2D([], [], color="#444444", marker="o", markerfacecolor="white", linestyle="", label="base"),
            Line2D([], [], color="#444444", marker="o", linestyle="", label="trained"),
        ][0 if any(row.base for row in rows) else 2 :]
        if len(labels) > 1:
            colours = [PALETTE[index % len(PALETTE)] for index in range(len(labels))]
            handles += [
                Line2D([], [], color=colour, linewidth=2.2, label=label)
                for label, colour in zip(labels, colours, strict=True)
            ]
        if handles:
            _legend(figure, handles)
    return figure


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the ``window`` - 1 values before it; the first ``window`` - 1 values have no mean."""
    return [statistics.fmean(values[end - window : end]) for end in range(window, len(values) + 1)]


def _looks(groups: Sequence[Group]) -> list[tuple[Group, dict[str, Any]]]:
    """Colour of each group; dashes as well if there are more groups than colours."""
    return [
        (group, {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index // len(PALETTE) % len(DASHES)]})
        for index, group in enumerate(groups)
    ]


def _series(run: Run, name: str) -> dict[int, list[tuple[int, float]]]:
    """A metric of every round as (step, value) points; ``{}`` in ``name`` stands for the round."""
    result: dict[int, list[tuple[int, float]]] = {}
    head, tail = name.split("{}")
    for line in run.metrics:
        for key, value in line.items():
            if key.startswith(head) and key.endswith(tail):
                number = int(key.removeprefix(head).removesuffix(tail))
                result.setdefault(number, []).append((line["step"], value))
    return result


def _lines(axes: Axes, series: Sequence[Sequence[tuple[int, float]]], look: Mapping[str, Any], window: int) -> None:
    smooth = []
    for line in series:
        size = min(window, max(1, len(line) // 4))
        means = running_mean([value for _, value in line], size)
        smooth.append(dict(zip([step for step, _ in line[size - 1 :]], means, strict=True)))
    _seeds_and_mean(axes, smooth, look)


def _seeds_and_mean(axes: Axes, lines: Sequence[Mapping[int, float]], look: Mapping[str, Any]) -> None:
    if len(lines) > 1:
        for line in lines:
            axes.plot(list(line), list(line.values()), linewidth=0.8, alpha=0.5, **look)
    steps = _common(lines)
    axes.plot(steps, [statistics.fmean(line[step] for line in lines) for step in steps], linewidth=2.2, **look)


def _validation(axes: Axes, group: Group, look: Mapping[str, Any]) -> None:
    lines = [
        {
            line["step"]: Interval(*(line[f"validation/{name}"] for name in ("accuracy", "low", "high")))
            for line in run.metrics
            if "validation/accuracy" in line
        }
        for run in group.runs
    ]
    _seeds_and_mean(axes, [{step: value.estimate for step, value in line.items()} for line in lines], look)
    steps = _common(lines)
    means = [combine([line[step] for line in lines], 0, 1) for step in steps]
    bands = [line for run in group.runs for line in run.metrics if "validation/band_low" in line]
    if len(group.runs) == 1 and bands:  # holds for all validations of this run together
        for end in ("low", "high"):
            axes.plot(
                [line["step"] for line in bands],
                [line[f"validation/band_{end}"] for line in bands],
                color=look["color"],
                linewidth=0.9,
                linestyle=(0, (1, 2)),
            )
    axes.fill_between(
        steps, [mean.low for mean in means], [mean.high for mean in means], color=look["color"], alpha=0.15, linewidth=0
    )


def _common(lines: Iterable[Mapping[int, object]]) -> list[int]:
    """Steps that occur in all lines."""
    return sorted(set.intersection(*(set(line) for line in lines)))


def _point(axes: Axes, value: Interval, height: float, colour: str, filled: bool) -> None:
    axes.errorbar(
        [value.estimate],
        [height],
        xerr=[[value.estimate - value.low], [value.high - value.estimate]],
        fmt="o",
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=6.5 if filled else 5,
        markeredgewidth=1.5,
        zorder=3 if filled else 4,
        elinewidth=1.3,
        capsize=3,
    )


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Add a legend below the plot, with as many columns as fit."""
    widest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(WIDTH / (0.65 + 0.085 * widest))))  # inches: the handle, a letter
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)
