"""The plot of ``scaling``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from src.reporting.looks import look
from src.reporting.plots import style


def scaling_plot(lines: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Log-log plot of seconds against multiples of the smallest size; the dotted line is proportional growth."""
    with style():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log", xlabel="times the start", ylabel="seconds of a training step")
        axes.set_title("Doubling one factor of a training step")
        for index, (factor, points) in enumerate(lines.items()):
            axes.plot(*zip(*points, strict=True), markersize=4, label=factor, **look(index).line)
        multiples = sorted({multiple for points in lines.values() for multiple, _ in points})
        start = next(iter(lines.values()))[0][1]
        axes.plot(multiples, [start * multiple for multiple in multiples], "k:", linewidth=1, label="proportional")
        axes.set_xticks(multiples, [f"{multiple:g}" for multiple in multiples])
        axes.xaxis.set_minor_locator(NullLocator())
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(plain)
        axes.legend()
    return figure
