"""Tables of results in Markdown, CSV and LaTeX: one row per group of runs, test split and number of rounds."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from scipy import stats

from src.evaluation.statistics import Interval
from src.reporting.evaluations import Name
from src.reporting.runs import Group, Run
from src.utils import tables

HEADINGS = ("runs", "test split", "rounds", "base", "trained", "change", "tokens an answer", "seeds")
NOTE = (
    "Accuracies in %, changes in points, with 95 % intervals in brackets. With one seed an interval is over problems. "
    "With several seeds, numbers are means over seeds; an interval covers both seeds and problems (the half-widths of "
    "Student's t over seeds and of the mean interval over problems, added in quadrature)."
)


@dataclass(frozen=True)
class Result:
    """One row: a group on a test split at a number of rounds; base and change are missing if no base was evaluated."""

    group: str
    split: str
    rounds: int
    base: Interval | None
    trained: Interval
    change: Interval | None
    base_tokens: float | None
    tokens: float
    seeds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Values of ``base``, ``trained`` and ``change`` for each seed, in the order of ``seed_numbers``."""
    seed_numbers: tuple[int, ...] = ()


def results(groups: Iterable[Group]) -> list[Result]:
    """All rows, in the order of groups and of their evaluations."""
    groups = list(groups)
    names = {name for group in groups for name in group.runs[0].evaluations("after")}
    return [_result(group, name, names) for group in groups for name in group.runs[0].evaluations("after")]


def _result(group: Group, name: Name, names: Collection[Name]) -> Result:
    before, after, change = (_evaluations(group.runs, part, name) for part in ("before", "after", "change"))
    assert after is not None
    estimates = {
        "base": [value["accuracy"] for value in before or ()],
        "trained": [value["accuracy"] for value in after],
        "change": [value["estimate"] for value in change or ()],
    }
    return Result(
        group=group.label,
        split=name.label(names),
        rounds=name.rounds,
        base=combine([Interval(v["accuracy"], v["low"], v["high"]) for v in before], 0, 1) if before else None,
        trained=combine([Interval(v["accuracy"], v["low"], v["high"]) for v in after], 0, 1),
        change=combine([Interval(v["estimate"], v["low"], v["high"]) for v in change], -1, 1) if change else None,
        base_tokens=statistics.fmean(value["tokens_per_answer"] for value in before) if before else None,
        tokens=statistics.fmean(value["tokens_per_answer"] for value in after),
        seeds={key: values for key, values in estimates.items() if values},
        seed_numbers=tuple(run.seed for run in group.runs),
    )


def _evaluations(runs: Sequence[Run], part: str, name: Name) -> list[Mapping[str, float]] | None:
    """One evaluation of every run; ``None`` if a run lacks it."""
    found = [run.evaluations(part).get(name) for run in runs]
    return None if None in found else [one for one in found if one is not None]


def combine(intervals: Sequence[Interval], lowest: float, highest: float) -> Interval:
    """Mean over seeds with an interval that covers seeds and problems, clipped to [lowest, highest].

    A single interval is returned as it is.
    All seeds are evaluated on the same problems, so the uncertainty of the problems does not shrink with the number of
    seeds: half-widths of Student's t over seeds and of the mean interval over problems are added in quadrature.
    """
    if len(intervals) == 1:
        return intervals[0]
    mean = over_seeds([interval.estimate for interval in intervals])
    below = statistics.fmean(interval.estimate - interval.low for interval in intervals)
    above = statistics.fmean(interval.high - interval.estimate for interval in intervals)
    return Interval(
        mean.estimate,
        max(lowest, mean.estimate - math.hypot(mean.estimate - mean.low, below)),
        min(highest, mean.estimate + math.hypot(mean.high - mean.estimate, above)),
    )


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean with the 95 % interval of Student's t (Biometrika 6, 1908); two values at least."""
    mean = statistics.fmean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def markdown(rows: Sequence[Result]) -> str:
    """Markdown table, with a note on the intervals."""
    headings, cells = _cells(rows)
    return f"{tables.markdown(headings, cells)}\n\n{NOTE}\n"


def latex(rows: Sequence[Result]) -> str:
    """LaTeX table; needs the package booktabs."""
    headings, cells = _cells(rows)
    return f"% {NOTE}\n% \\usepackage{{booktabs}}\n{tables.latex(headings, cells, headings.index('rounds'))}\n"


def comma_separated(rows: Sequence[Result]) -> str:
    """CSV of all numbers as fractions at full precision, with columns for the values of each seed."""
    seeds = sorted({seed for row in rows for seed in row.seed_numbers})
    parts = ("base", "trained", "change")
    names = [f"{part}_{name}" for part in parts for name in ("estimate", "low", "high")]
    own = [f"{part}_seed_{seed}" for part in parts for seed in seeds]
    file = io.StringIO()
    heading = ["runs", "split", "rounds", "seeds", *names, "base_tokens_per_answer", "tokens_per_answer", *own]
    writer = csv.DictWriter(file, heading, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        record: dict[str, object] = {
            "runs": row.group,
            "split": row.split,
            "rounds": row.rounds,
            "seeds": len(row.seed_numbers),
            "base_tokens_per_answer": "" if row.base_tokens is None else row.base_tokens,
            "tokens_per_answer": row.tokens,
        }
        for part in parts:
            interval: Interval | None = getattr(row, part)
            if interval is not None:
                record |= {f"{part}_{name}": value for name, value in asdict(interval).items()}
                values = zip(row.seed_numbers, row.seeds[part], strict=True)
                record |= {f"{part}_seed_{seed}": value for seed, value in values}
        writer.writerow(record)
    return file.getvalue()


def _cells(rows: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells; the column of labels is left out if there is only one group."""
    lines = [
        [
            row.group,
            row.split,
            str(row.rounds),
            _percent(row.base),
            _percent(row.trained),
            _percent(row.change, "+"),
            f"{row.tokens:.1f}" if row.base_tokens is None else f"{row.base_tokens:.1f} → {row.tokens:.1f}",
            str(len(row.seed_numbers)),
        ]
        for row in rows
    ]
    first = 0 if any(row.group for row in rows) else 1
    return list(HEADINGS[first:]), [line[first:] for line in lines]


def _percent(value: Interval | None, sign: str = "") -> str:
    if value is None:
        return "-"
    estimate, low, high = (f"{100 * number:{sign}.1f}" for number in (value.estimate, value.low, value.high))
    return f"{estimate} [{low}, {high}]"
