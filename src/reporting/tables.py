"""Tables of results in Markdown, CSV and LaTeX: one row per group of runs, test split and number of rounds."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from src.evaluation.joint import joint_difference, joint_interval
from src.evaluation.statistics import ROUNDING, Interval, t_quantile
from src.reporting.evaluations import Name
from src.reporting.measurement import change_corrected
from src.reporting.notes import note
from src.reporting.runs import Group, Run
from src.reporting.variances import by_problem, detectable_change, smallest
from src.utils import tables
from src.utils.floor import floor_of, is_below, marked

HEADINGS = (
    *("runs", "test split", "rounds", "base", "trained", "corrected", "change", "corrected change", "detectable"),
    *("tokens per answer", "tokens in sequence", "vote", "seeds"),
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
    joint: bool = False  # whether intervals are over seeds and problems at once
    vote: tuple[float, int] | None = None  # accuracy and number of votes of one round at the tokens of this row
    floor: float | None = None  # smaller changes may come from the layout of batches or the engine
    corrected: Interval | None = None  # for the verifier's errors
    problems: int | None = None  # older summaries of evaluations may not hold it
    base_sequence: float | None = None  # tokens in sequence, where prompts quote several turns
    sequence: float | None = None
    detectable: float | None = None  # smallest true change that such evaluations find in 80 % of repetitions
    corrected_change: Interval | None = None  # for the verifier's errors

    @property
    def below_floor(self) -> bool:
        """Whether the change is below the measurement floor."""
        return self.change is not None and is_below(self.change.estimate, self.floor)


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
    moved = _change(before, after, change) if before and change else None
    return Result(
        group=group.label,
        split=name.label(names),
        rounds=name.rounds,
        base=over_runs(before) if before else None,
        trained=over_runs(after),
        change=moved,
        corrected_change=change_corrected(moved, list(zip(before or (), after, strict=False))),
        base_tokens=statistics.fmean(value["tokens_per_answer"] for value in before) if before else None,
        tokens=statistics.fmean(value["tokens_per_answer"] for value in after),
        seeds={key: values for key, values in estimates.items() if values},
        seed_numbers=tuple(run.seed for run in group.runs),
        joint=by_problem(after) is not None,
        vote=_vote(group.runs, name),
        floor=floor_of([*(before or ()), *after]),
        corrected=over_runs([one["corrected"] for one in after]) if all("corrected" in one for one in after) else None,
        problems=after[0].get("problems"),
        base_sequence=_sequence(before or []),
        sequence=_sequence(after),
        detectable=detectable_change(before, after) if before and change else None,
    )


def name_of_test(rows: Iterable[Result], split: str, rounds: int, end: str = ": ") -> str:
    """The name of a test; after ``end`` its number of problems, if all groups have the same."""
    counts = {row.problems for row in rows if (row.split, row.rounds) == (split, rounds)}
    count = counts.pop() if len(counts) == 1 else None
    return f"{split}, {tables.counted(rounds, 'round')}" + (f"{end}{count} problems" if count else "")


def _sequence(found: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean number of tokens in sequence; ``None`` if no prompt quotes several turns."""
    if not found or not all("graph" in one for one in found):
        return None
    return statistics.fmean(one["graph"]["sequential_tokens"] for one in found)


def over_runs(found: Sequence[Mapping[str, Any]]) -> Interval:
    """Mean accuracy over runs that differ in their seed, with its interval."""
    scores = by_problem(found)
    joint = joint_interval(scores) if scores is not None else None
    if joint is not None and not joint.empty:  # no spread is no certainty
        return joint
    return combine([Interval(one["accuracy"], one["low"], one["high"]) for one in found], 0, 1)


def _change(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], change: Sequence[Mapping[str, Any]]
) -> Interval:
    scores = by_problem(before), by_problem(after)
    if scores[0] is not None and scores[1] is not None and scores[0].shape == scores[1].shape:
        joint = joint_difference(scores[0], scores[1])
        if not joint.empty:
            return joint
    return combine([Interval(one["estimate"], one["low"], one["high"]) for one in change], -1, 1)


def _vote(runs: Sequence[Run], name: Name) -> tuple[float, int] | None:
    """Accuracy of votes of one round at the tokens of ``name``, and their number; a mean over runs."""
    if name.rounds == 1:
        return None
    found = []
    for run in runs:
        evaluations = run.evaluations("after")
        single = evaluations.get(name._replace(rounds=1), {})
        if "votes" not in single or not single["tokens_per_answer"]:
            return None
        fitting = int(evaluations[name]["tokens_per_answer"] / single["tokens_per_answer"])
        count = min(max(1, fitting), single["samples"])
        found.append((single["votes"][str(count)], count))
    return statistics.fmean(rate for rate, _ in found), min(count for _, count in found)


def _evaluations(runs: Sequence[Run], part: str, name: Name) -> list[Mapping[str, Any]] | None:
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


def over_seeds(values: Sequence[float], lowest: float = -math.inf, highest: float = math.inf) -> Interval:
    """Mean of two values or more with the 95 % interval of Student's t (Biometrika 6, 1908), clipped."""
    mean = statistics.fmean(values)
    half = t_quantile(len(values)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, max(lowest, mean - half), min(highest, mean + half))


def spread(values: Sequence[float], lowest: float = -math.inf, highest: float = math.inf) -> Interval | None:
    """The same, or ``None`` if the values are equal up to rounding: they show no spread between seeds."""
    return over_seeds(values, lowest, highest) if max(values) - min(values) > ROUNDING else None


def markdown(rows: Sequence[Result]) -> str:
    """Markdown table, with a note on the intervals."""
    headings, cells = _cells(rows)
    return f"{tables.markdown(headings, cells)}\n\n{note(rows)}\n"


def latex(rows: Sequence[Result]) -> str:
    """LaTeX table; needs the package booktabs."""
    headings, cells = _cells(rows)
    return f"% {note(rows)}\n% \\usepackage{{booktabs}}\n{tables.latex(headings, cells, headings.index('rounds'))}\n"


def comma_separated(rows: Sequence[Result]) -> str:
    """CSV of all numbers as fractions at full precision, with columns for the values of each seed."""
    seeds = sorted({seed for row in rows for seed in row.seed_numbers})
    parts = ("base", "trained", "change")
    more = [part for part in ("corrected", "corrected_change") if any(getattr(row, part) for row in rows)]
    names = [f"{part}_{name}" for part in parts for name in ("estimate", "low", "high")]
    own = [f"{part}_seed_{seed}" for part in parts for seed in seeds]
    file = io.StringIO()
    heading = ["runs", "split", "rounds", "seeds", *names, "base_tokens_per_answer", "tokens_per_answer", *own]
    heading += ["vote", "votes"] if any(row.vote for row in rows) else []
    heading += ["base_sequential_tokens", "sequential_tokens"] if any(row.sequence is not None for row in rows) else []
    heading += ["detectable"] if any(row.detectable is not None for row in rows) else []
    heading += ["floor"] if any(row.floor is not None for row in rows) else []
    heading += [f"{part}_{name}" for part in more for name in ("estimate", "low", "high")]
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
        if any(one.vote for one in rows):
            record |= dict(zip(("vote", "votes"), row.vote or ("", ""), strict=True))
        present = {"base_sequential_tokens": row.base_sequence, "sequential_tokens": row.sequence}
        present |= {"detectable": row.detectable, "floor": row.floor}
        record |= {name: value for name, value in present.items() if value is not None}
        for part in (*parts, *more):
            interval: Interval | None = getattr(row, part)
            if interval is not None:
                record |= {f"{part}_{name}": value for name, value in asdict(interval).items()}
            if interval is not None and part in parts:
                values = zip(row.seed_numbers, row.seeds[part], strict=True)
                record |= {f"{part}_seed_{seed}": value for seed, value in values}
        writer.writerow(record)
    return file.getvalue()


def _cells(rows: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells; columns that would be empty, and the column of labels of a single group, are left out."""
    lines = [
        {
            "runs": row.group,
            "test split": row.split,
            "rounds": str(row.rounds),
            "base": percent(row.base),
            "trained": percent(row.trained),
            "corrected": percent(row.corrected),
            "change": marked(percent(row.change, "+"), row.below_floor),
            "corrected change": marked(percent(row.corrected_change, "+"), row.below_floor),
            "detectable": smallest(row.detectable),
            "tokens per answer": _moved(row.base_tokens, row.tokens),
            "tokens in sequence": "-" if row.sequence is None else _moved(row.base_sequence, row.sequence),
            "vote": f"{100 * row.vote[0]:.1f} ({row.vote[1]})" if row.vote else "-",
            "seeds": str(len(row.seed_numbers)),
        }
        for row in rows
    ]
    present = {"runs": any(row.group for row in rows), "vote": any(row.vote for row in rows)}
    present["detectable"] = any(row.detectable is not None for row in rows)
    present["corrected"] = any(row.corrected for row in rows)
    present["corrected change"] = any(row.corrected_change for row in rows)
    present["tokens in sequence"] = any(row.sequence is not None for row in rows)
    headings = [name for name in HEADINGS if present.get(name, True)]
    return headings, [[line[name] for name in headings] for line in lines]


def _moved(before: float | None, after: float) -> str:
    """A number of tokens, before and after training."""
    return f"{after:.1f}" if before is None else f"{before:.1f} → {after:.1f}"


def percent(value: Interval | None, sign: str = "") -> str:
    """An interval in percent or, with the sign "+", in points."""
    if value is None:
        return "-"
    estimate, low, high = (f"{100 * number:{sign}.1f}" for number in (value.estimate, value.low, value.high))
    return f"{estimate} [{low}, {high}]"
