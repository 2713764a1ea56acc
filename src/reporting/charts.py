"""Geometry of the page's charts: accuracy before and after training, and curves against steps, as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.ticker import MaxNLocator

from src.evaluation.statistics import Interval
from src.reporting.looks import GREYED, Look, look
from src.reporting.runs import Group
from src.reporting.series import (
    Series,
    smoothing,
    training,
    validated,
    validated_over,
    validation,
    validation_title,
)
from src.reporting.tables import Result, name_of_test, results
from src.utils.tables import counted

WIDTH, HEIGHT = 400, 240
"""Size of a curve's drawing in pixels; the page scales it to its column."""

LEFT, RIGHT, TOP, BOTTOM = 52, 26, 10, 40
"""Margins of the axes. Letters of the groups stand in the right one."""

NUMBERS = 92
"""Width of the column of numbers beside intervals."""

ROW, HEADING = 24, 22
"""Heights of a group's row and of a test's heading, in the chart of intervals."""

SHAPES = {
    "o": "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0Z",
    "s": "M-3,-3H3V3H-3Z",
    "^": "M0,-4L4,3H-4Z",
    "D": "M0,-4.3L4.3,0L0,4.3L-4.3,0Z",
    "v": "M0,4L4,-3H-4Z",
}
"""SVG paths of the markers, around the origin."""

Scale = Callable[[float], float]


def charts(groups: Sequence[Group]) -> dict[str, Any]:
    """The legend and the drawings of all charts for which the runs hold data."""
    labels = validated_over(groups)
    keys = [_key(index, group, labels[index]) for index, group in enumerate(groups)]
    return {"legend": keys, "drawn": [*_drawn(groups)]}


def _drawn(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    rows = results(groups)
    if rows:
        yield _intervals(groups, rows)
    if validated(groups):
        found = [validation(group) for group in groups]
        yield _curves(validation_title(groups), "accuracy (%)", found, 100, "shaded: 95 % intervals")
    for name, title, unit, factor in (
        ("reward", "Training reward of first responses", "reward", 1),
        ("accuracy", "Training accuracy of first responses", "accuracy (%)", 100),
    ):
        lines = training(groups, name)
        if any(line.mean for line in lines):
            yield _curves(title, unit, lines, factor, smoothing(groups))


def _key(index: int, group: Group, label: str) -> dict[str, Any]:
    """A group's entry in the legend."""
    seeds = [str(run.seed) for run in group.runs]
    return {
        **_style(look(index)),
        "label": label if group.label else group.runs[0].path.name,
        "seeds": f"{counted(len(seeds), 'seed')} ({', '.join(seeds)})",
    }


def _style(found: Look) -> dict[str, str]:
    """A look as SVG attributes. Black is the colour of text, which is light in dark mode."""
    colour = "var(--ink)" if found.colour == "#000000" else found.colour
    dash = " ".join(f"{2 * length:g}" for length in found.dash)
    return {"letter": found.letter, "colour": colour, "dash": dash, "shape": SHAPES[found.marker]}


def _curves(title: str, unit: str, lines: Sequence[Series], factor: int, note: str) -> dict[str, Any]:
    """Curves against optimizer steps, with the letter of each group at the end of its curve."""
    last = max(step for line in lines for step in line.mean)
    values = [value for line in lines for value in line.mean.values()]
    values += [end for line in lines for interval in line.intervals.values() for end in (interval.low, interval.high)]
    low, high = min(values), max(values)
    ticks = _ticks(factor * low, factor * (high if high > low else low + 1 / factor))
    x = _scale(0, last, LEFT, WIDTH - RIGHT)
    y = _scale(ticks[0] / factor, ticks[-1] / factor, HEIGHT - BOTTOM, TOP)
    drawn = list[dict[str, Any]]()
    for index, line in enumerate(lines):
        if line.mean:
            steps = [*line.mean]
            marked = steps[:: max(1, len(steps) // 6)]
            drawn.append(
                {
                    **_style(look(index)),
                    "line": _points((x(step), y(value)) for step, value in line.mean.items()),
                    "seeds": [_points((x(step), y(one[step])) for step in one) for one in line.seeds]
                    if len(line.seeds) > 1
                    else [],
                    "area": _area(line.intervals, x, y),
                    "alone": [(x(step), y(one.low), y(one.high)) for step, one in line.intervals.items()]
                    if len(line.intervals) == 1
                    else [],
                    "marks": [(x(step), y(line.mean[step])) for step in marked],
                    "end": y(line.mean[steps[-1]]),
                    "last": f"{factor * line.mean[steps[-1]]:.3g}",
                }
            )
    for one, place in zip(drawn, apart([one["end"] for one in drawn]), strict=True):
        one["end"] = place
    return {
        "kind": "curves",
        "title": title,
        "note": note,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "unit": unit,
        "x": [(x(step), f"{step:g}") for step in _ticks(0, last, whole=True) if step <= last],
        "y": [(y(tick / factor), f"{tick:g}") for tick in ticks],
        "lines": drawn,
    }


def _intervals(groups: Sequence[Group], rows: Sequence[Result]) -> dict[str, Any]:
    """A row for each test and group: its base, hollow, above its trained policy, filled, with 95 % intervals."""
    looks = {group.label: look(index) for index, group in enumerate(groups)}
    tests: dict[str, list[Result]] = {}
    for row in sorted(rows, key=lambda row: (row.split, row.rounds)):
        tests.setdefault(name_of_test(rows, row.split, row.rounds), []).append(row)
    ends = [end for row in rows for one in (row.base, row.trained) if one is not None for end in (one.low, one.high)]
    ticks = _ticks(100 * min(ends), 100 * max(ends))
    x = _scale(ticks[0] / 100, ticks[-1] / 100, LEFT, WIDTH - NUMBERS)
    top, headings, drawn = TOP, list[tuple[float, str]](), list[dict[str, Any]]()
    for test, own in tests.items():
        headings.append((top + HEADING / 2, test))
        top += HEADING
        for row in own:
            drawn.append({**_style(looks[row.group].greyed(row.below_floor)), "y": top + ROW / 2, **_whiskers(row, x)})
            top += ROW
    return {
        "kind": "intervals",
        "title": "Test accuracy before (hollow) and after (filled) training",
        "note": "95 % intervals" + f"; grey: {GREYED}" * any(row.below_floor for row in rows),
        "width": WIDTH,
        "height": top + BOTTOM,
        "left": LEFT,
        "right": WIDTH - NUMBERS,
        "bottom": top,
        "unit": "accuracy (%)",
        "x": [(x(tick / 100), f"{tick:g}") for tick in ticks],
        "headings": headings,
        "rows": drawn,
    }


def _whiskers(row: Result, x: Scale) -> dict[str, Any]:
    both = [one for one in (row.base, row.trained) if one is not None]
    places = (-5.0, 5.0) if len(both) == 2 else (0.0,)
    return {
        "whiskers": [
            {"low": x(one.low), "at": x(one.estimate), "high": x(one.high), "y": place, "filled": one is row.trained}
            for one, place in zip(both, places, strict=True)
        ],
        "numbers": " → ".join(f"{100 * one.estimate:.1f}" for one in both),
    }


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """The linear map of [low, high] to pixels from ``start`` to ``end``."""
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers that enclose both values; integers with ``whole``."""
    return [float(tick) for tick in MaxNLocator(5, steps=(1, 2, 5, 10), integer=whole).tick_values(low, high)]


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _area(intervals: Mapping[int, Interval], x: Scale, y: Scale) -> str:
    """The outline between the ends of intervals."""
    lower = [(x(step), y(one.low)) for step, one in intervals.items()]
    upper = [(x(step), y(one.high)) for step, one in intervals.items()]
    return _points([*lower, *reversed(upper)])


def apart(places: Sequence[float], least: float = 13.0) -> list[float]:
    """Move letters down until none covers another, then back up if the last one is below the axes.

    Where they need more than the height of the axes, they stand closer, but stay in the drawing.
    """
    least = min(least, (HEIGHT - BOTTOM - TOP) / max(1, len(places) - 1))
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, index in pairwise(order):
        moved[index] = max(moved[index], moved[before] + least)
    if order and moved[order[-1]] > HEIGHT - BOTTOM:
        moved[order[-1]] = HEIGHT - BOTTOM
        for after, index in pairwise(reversed(order)):
            moved[index] = min(moved[index], moved[after] - least)
    return moved
