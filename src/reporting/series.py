"""Series that plots and charts draw: a metric of each run of a group against steps, its mean over seeds, intervals."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from src.evaluation.statistics import Interval
from src.reporting.runs import Group, Run
from src.reporting.tables import combine
from src.utils.tables import counted

Points = Mapping[int, float]
"""Values by step."""

SAYS_ROUNDS = re.compile(r"\brounds(\.n)?=\d")
"""A label that holds the number of rounds."""


@dataclass(frozen=True)
class Series:
    """A metric of a group. ``mean`` and ``intervals`` are over seeds, at the steps that all seeds have."""

    seeds: Sequence[Points]
    mean: Points
    intervals: Mapping[int, Interval] = field(default_factory=dict)
    band: Mapping[int, Interval] = field(default_factory=dict)
    """Of one seed: intervals that hold at all validations together."""


def longest(groups: Sequence[Group]) -> int:
    """Number of steps of the longest run."""
    return max(_steps(groups))


def _steps(groups: Sequence[Group]) -> list[int]:
    """Number of steps of each run."""
    return [int(run.metrics[-1]["step"]) for group in groups for run in group.runs]


def window(groups: Sequence[Group]) -> int:
    """Number of steps that curves are averaged over: a twentieth of the longest run."""
    return max(1, longest(groups) // 20)


def smoothing(groups: Sequence[Group]) -> str:
    """The running mean of curves in words; empty if there is none."""
    size, shortest = window(groups), min(_steps(groups))
    most = "up to " if shortest < 4 * size else ""  # short runs are averaged over a quarter of their steps
    return "" if size == 1 else f"running mean of {most}{size} steps"


def smoothed(runs: Iterable[Points], size: int) -> Series:
    """Running means of a metric of several runs, over at most a quarter of each run's steps."""
    seeds = []
    for points in runs:
        own = min(size, max(1, len(points) // 4))
        seeds.append(dict(zip([*points][own - 1 :], running_mean([*points.values()], own), strict=True)))
    return Series(seeds, _mean(seeds))


def metric(run: Run, name: str) -> Points:
    """A metric of a run at the steps that have it."""
    return {line["step"]: line[name] for line in run.metrics if name in line}


def training(groups: Sequence[Group], name: str) -> list[Series]:
    """Running means of a metric of each group."""
    return [smoothed([metric(run, name) for run in group.runs], window(groups)) for group in groups]


def by_round(run: Run, name: str) -> dict[int, Points]:
    """A metric of every round; ``{}`` in ``name`` stands for the round."""
    head, tail = name.split("{}")
    keys = {key for line in run.metrics for key in line if key.startswith(head) and key.endswith(tail)}
    return {int(key.removeprefix(head).removesuffix(tail)): metric(run, key) for key in sorted(keys)}


def validation(group: Group) -> Series:
    """Validation accuracy with 95 % intervals."""
    lines = [_intervals(run, ("accuracy", "low", "high")) for run in group.runs]
    seeds = [{step: value.estimate for step, value in line.items()} for line in lines]
    intervals = {step: combine([line[step] for line in lines], 0, 1) for step in _common(lines)}
    alone = _intervals(group.runs[0], ("accuracy", "band_low", "band_high")) if len(group.runs) == 1 else {}
    return Series(seeds, _mean(seeds), intervals, alone)


def validated(groups: Iterable[Group]) -> bool:
    """Whether a run has a validation accuracy."""
    return any("validation/accuracy" in line for group in groups for run in group.runs for line in run.metrics)


def validation_title(groups: Sequence[Group]) -> str:
    """A title with the number of validation problems and of rounds, each unless groups differ or it is not recorded."""
    counts = {run.settings.get("benchmark.validation_size") for group in groups for run in group.runs}
    (count,) = counts if len(counts) == 1 else (None,)
    lengths = {_rounds(group) for group in groups}
    (length,) = lengths if len(lengths) == 1 else (None,)
    return ", ".join(filter(None, ["Validation accuracy", f"{count} problems" if count else None, length]))


def validated_over(groups: Sequence[Group]) -> list[str]:
    """Each group's label; with the rounds of its validations where groups differ in them, and labels do not say so.

    A run is validated at its own number of rounds.
    """
    lengths = [_rounds(group) if validated([group]) else None for group in groups]
    if len(set(filter(None, lengths))) < 2 or all(SAYS_ROUNDS.search(group.label) for group in groups):
        return [group.label for group in groups]
    return [
        f"{group.label}{f' (validated over {length})' if length else ''}"
        for group, length in zip(groups, lengths, strict=True)
    ]


def _rounds(group: Group) -> str | None:
    """The number of rounds of a group in words; ``None`` if its settings are not recorded or have no single number."""
    found = {run.settings.get("rounds.n") for run in group.runs}
    (number,) = found if len(found) == 1 else (None,)
    return None if number is None else counted(int(number), "round")


def running_mean(values: Sequence[float], size: int) -> list[float]:
    """Mean of each value and the ``size`` - 1 values before it; the first ``size`` - 1 values have no mean."""
    return [statistics.fmean(values[end - size : end]) for end in range(size, len(values) + 1)]


def _intervals(run: Run, names: Sequence[str]) -> dict[int, Interval]:
    keys = [f"validation/{name}" for name in names]
    return {line["step"]: Interval(*(line[key] for key in keys)) for line in run.metrics if set(keys) <= line.keys()}


def _mean(lines: Sequence[Points]) -> dict[int, float]:
    return {step: statistics.fmean(line[step] for line in lines) for step in _common(lines)}


def _common(lines: Sequence[Mapping[int, object]]) -> list[int]:
    """Steps that occur in all lines."""
    return sorted(set.intersection(*(set(line) for line in lines)))
