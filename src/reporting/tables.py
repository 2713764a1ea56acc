"""Results as tables: a row for every group of runs, test split and number of rounds; as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from src.evaluation.statistics import Interval
from src.reporting.runs import Group, Run

HEADINGS = ("runs", "test split", "rounds", "base", "trained", "change", "tokens an answer", "seeds")
NOTE = (
    "Accuracies in %, changes in points, with 95 % intervals in brackets. With one seed an interval is that over the "
    "problems; with several, every number is a mean over seeds and its interval is Student's t over them."
)


@dataclass(frozen=True)
class Result:
    """One group on one test split at one number of rounds; base and change are missing where no base was evaluated."""

    group: str
    split: str
    rounds: int
    base: Interval | None
    trained: Interval
    change: Interval | None
    base_tokens: float | None
    tokens: float
    seeds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """``base``, ``trained`` and ``change`` of each seed, in the order of ``seed_numbers``."""
    seed_numbers: tuple[int, ...] = ()


def results(groups: Iterable[Group]) -> list[Result]:
    """All rows, in the order of the groups and of their evaluations."""
    return [_result(group, name) for group in groups for name in group.runs[0].summary["evaluations"]["after"]]


def _result(group: Group, name: str) -> Result:
    before, after, change = (_evaluations(group.runs, part, name) for part in ("before", "after", "change"))
    assert after is not None
    estimates = {
        "base": [value["accuracy"] for value in before or ()],
        "trained": [value["accuracy"] for value in after],
        "change": [value["estimate"] for value in change or ()],
    }
    return Result(
        group=group.label,
        split=name.rpartition(", ")[0],
        rounds=int(after[0]["rounds"]),
        base=combine([Interval(v["accuracy"], v["low"], v["high"]) for v in before], 0, 1) if before else None,
        trained=combine([Interval(v["accuracy"], v["low"], v["high"]) for v in after], 0, 1),
        change=combine([Interval(v["estimate"], v["low"], v["high"]) for v in change], -1, 1) if change else None,
        base_tokens=statistics.fmean(value["tokens_per_answer"] for value in before) if before else None,
        tokens=statistics.fmean(value["tokens_per_answer"] for value in after),
        seeds={key: values for key, values in estimates.items() if values},
        seed_numbers=tuple(run.seed for run in group.runs),
    )


def _evaluations(runs: Sequence[Run], part: str, name: str) -> list[Mapping[str, float]] | None:
    """An evaluation of every run; ``None`` where the runs did not make it."""
    found = [run.summary["evaluations"][part].get(name) for run in runs]
    return None if None in found else found


def combine(intervals: Sequence[Interval], lowest: float, highest: float) -> Interval:
    """The only interval, or the mean over seeds with Student's t interval, cut at the possible values."""
    if len(intervals) == 1:
        return intervals[0]
    mean = over_seeds([interval.estimate for interval in intervals])
    return Interval(mean.estimate, max(lowest, mean.low), min(highest, mean.high))


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean with the 95 % interval of Student's t (Biometrika 6, 1908); two values at least."""
    mean = statistics.fmean(values)
    half = student_t95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def student_t95(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution, from its closed form at whole degrees of freedom.

    With ``angle`` = atan(t / sqrt(freedom)) the probability of [-t, t] is a finite sum of powers of the angle's cosine
    (Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4); the angle is found by bisection.
    """

    def inside(angle: float) -> float:
        odd = freedom % 2
        term = total = 0.0 if freedom == 1 else (math.cos(angle) if odd else 1.0)
        for power in range(2 + odd, freedom - 1, 2):
            term *= math.cos(angle) ** 2 * (power - 1) / power
            total += term
        return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total

    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < 0.95 else (low, middle)
    return math.tan(high) * math.sqrt(freedom)


def markdown(rows: Sequence[Result]) -> str:
    """The table for a README, with a note on its intervals."""
    headings, cells = _cells(rows)
    lines = [headings, ["---"] * len(headings), *cells]
    escaped = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n".join(escaped) + f"\n\n{NOTE}\n"


def latex(rows: Sequence[Result]) -> str:
    """The table for a paper; needs the package booktabs."""
    headings, cells = _cells(rows)
    body = [" & ".join(map(_latex_escape, line)) + r" \\" for line in cells]
    columns = "l" * (headings.index("rounds")) + "r" * (len(headings) - headings.index("rounds"))
    head = " & ".join(map(_latex_escape, headings)) + r" \\"
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return f"% {NOTE}\n% \\usepackage{{booktabs}}\n" + "\n".join(lines) + "\n"


def comma_separated(rows: Sequence[Result]) -> str:
    """All numbers at full precision, as fractions, with a column for each seed's own values."""
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
    """Headings and text; with a single group its empty label is left out."""
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


def _latex_escape(text: str) -> str:
    special = {character: "\\" + character for character in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"→": r"$\to$", "…": r"\dots{}"}
    return "".join(special.get(character, character) for character in text)
