"""Compare groups of runs: paired differences in accuracy of their trained policies on the same test problems."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from src.evaluation.corrected_changes import corrected_change, corrected_gap, gap_p, true_score
from src.evaluation.joint import (
    Components,
    detectable_here,
    joint_difference,
    joint_p,
    paired_components,
)
from src.evaluation.measuring import VerifierError
from src.evaluation.multiple_testing import LEVEL, holm
from src.evaluation.statistics import Interval, paired_difference, paired_p
from src.reporting import variances
from src.reporting.evaluations import Name, rebuilt_verdicts, record_files
from src.reporting.measurement import Summaries, errors_of
from src.reporting.runs import Group, Run
from src.reporting.tables import percent, spread
from src.utils import tables
from src.utils.files import read_jsonl
from src.utils.floor import FLOOR, floor_of, is_below, marked

Verdicts = Mapping[tuple[str, str], Sequence[float]]
"""Verdicts on each problem, by its id and question."""

Scores = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Verdicts of two groups, [seeds, problems, samples] each."""

NOTE = (
    "Differences in accuracy after training, second minus first, in points, with 95 % intervals. Joint: over seeds, "
    "problems and samples at once (crossed random effects). Over problems: from the difference on every problem, "
    "all seeds together. Over seeds: Student's t over the differences of runs with the same seed (a paired t-test "
    'rejects equality at 5 % if the interval excludes 0); "-" if there is one common seed or if all seeds have the '
    "same difference, since then the data show no spread between seeds. Detectable: the smallest true difference "
    "that a comparison of this size finds in 80 % of repetitions; with one seed, of these weights on other "
    "problems. p: of no difference, by the joint interval (with one seed, over problems), adjusted by Holm's method "
    "for all rows of this table; differences in round brackets have p above 5 %. Seeds: the number of seeds that "
    "both have."
)

CORRECTED = (
    "Corrected: the difference corrected for the verifier's errors on labelled answers, with an interval that covers "
    'these errors too; "-" where one side has no labelled answers.'
)
APART = (
    "†: the two sides have different labelled answers or verifiers; each is corrected for its own errors, and p is of "
    "no difference after correction."
)


@dataclass(frozen=True)
class Pair:
    """Comparison of two groups on one test split at one number of rounds."""

    split: str
    rounds: int
    first: str
    second: str
    problems: Interval
    seeds: Interval | None  # missing with one seed in common, or if all seeds differ by the same amount
    joint: Interval | None  # over seeds, problems and samples; missing with one seed in common
    detectable: float | None  # smallest true difference that such a comparison finds in 80 % of repetitions
    common: int  # number of seeds in common
    components: Components | None  # of the difference; missing without a joint interval
    tokens: float | None  # generated in training by the second, as a multiple of the first's, if that was trained
    p: float = 1.0  # of no difference
    adjusted: float = 1.0  # the same for all comparisons of the table together (Holm)
    corrected: Interval | None = None  # for the verifier's errors; missing without labelled answers on both sides
    apart: bool = False  # whether the sides have different labelled answers or verifiers
    floor: float | None = None  # smaller differences may come from the layout of batches or the engine

    @property
    def below_floor(self) -> bool:
        """Whether the difference is below the measurement floor."""
        return is_below(self.problems.estimate, self.floor)


def pairs(groups: Sequence[Group]) -> list[Pair]:
    """All pairs of groups with a seed in common and an evaluation on the same problems at the same number of rounds."""
    return adjusted([pair for first, second in itertools.combinations(groups, 2) for pair in between(first, second)])


def adjusted(found: Sequence[Pair]) -> list[Pair]:
    """The pairs of one table, with p-values that are adjusted for their number."""
    values = holm([pair.p for pair in found])
    return [replace(pair, adjusted=value) for pair, value in zip(found, values, strict=True)]


def compared(groups: Sequence[Group]) -> Iterator[tuple[str, Scores, tuple[int, int]]]:
    """The scores of every pair of groups with two seeds in common or more, with a title and the numbers of samples per
    problem that were taken."""
    for first, second in itertools.combinations(groups, 2):
        paired = _paired(first, second)
        for name, verdicts, problems, names in _common(paired):
            if scores := scores_of(verdicts, problems):
                title = f"{second.label} against {first.label}, {name.label(names)}, {name.rounds} rounds"
                taken = [_taken(run, name, one) for run, one in zip(paired[0], scores, strict=True)]
                yield title, scores, (taken[0], taken[1])


def _taken(run: Run, name: Name, scores: NDArray[np.float64]) -> int:
    """Samples per problem of an evaluation; of graded verdicts, ``scores`` may hold the means only."""
    return int(run.evaluations("after")[name].get("samples", scores.shape[2]))


def _paired(first: Group, second: Group) -> list[tuple[Run, Run]]:
    """The runs of both groups with a seed in common."""
    runs = {run.seed: run for run in first.runs}
    return [(runs[run.seed], run) for run in second.runs if run.seed in runs]


def _common(
    paired: Sequence[tuple[Run, Run]],
) -> Iterator[tuple[Name, list[tuple[Verdicts, Verdicts]], list[tuple[str, str]], list[Name]]]:
    """The verdicts of paired runs, for each evaluation on the same problems."""
    if not paired:
        return
    first, second = (run.evaluations("after") for run in paired[0])
    names = [name for name in first if name in second]
    for name in names:
        verdicts = [(_recorded(a, name), _recorded(b, name)) for a, b in paired]
        if not all(one for both in verdicts for one in both):  # records of some are deleted
            sides = [[run.evaluations("after")[name] for run in both] for both in paired]
            verdicts = [(rebuilt_verdicts(a), rebuilt_verdicts(b)) for a, b in sides]
        if same_problems(verdicts):
            yield name, verdicts, list(verdicts[0][0]), names  # else other problems, or summaries without verdicts


def same_problems(verdicts: Sequence[tuple[Verdicts, Verdicts]]) -> bool:
    """Whether all verdicts are on the same problems; false if there are none."""
    problems = verdicts[0][0].keys()
    return bool(problems) and all(one.keys() == problems for both in verdicts for one in both)


def between(first: Group, second: Group) -> Iterator[Pair]:
    """The comparisons of two groups, one for each evaluation on the same problems."""
    paired = _paired(first, second)
    if not paired:
        return
    tokens = more_tokens(paired)
    for name, verdicts, _, names in _common(paired):
        summaries = [(a.evaluations("after")[name], b.evaluations("after")[name]) for a, b in paired]
        yield pair((name.label(names), name.rounds), (first.label, second.label), verdicts, tokens, summaries)


def more_tokens(paired: Sequence[tuple[Run, Run]]) -> float:
    """Tokens that the second runs generated in training, as a multiple of the first runs'."""
    return statistics.fmean(generated(b) / generated(a) for a, b in paired)


def pair(
    what: tuple[str, int],
    names: tuple[str, str],
    verdicts: Sequence[tuple[Verdicts, Verdicts]],
    tokens: float | None,
    summaries: Summaries = (),
) -> Pair:
    """The comparison of two groups, from the verdicts of each pair of runs on the same problems.

    ``what`` is the test split and the number of rounds, ``names`` the groups, ``tokens`` as in ``Pair``; ``summaries``
    are those of the evaluations, which hold errors of measurement.
    """
    problems = list(verdicts[0][0])
    before = [[mark for a, _ in verdicts for mark in a[problem]] for problem in problems]
    after = [[mark for _, b in verdicts for mark in b[problem]] for problem in problems]
    arrays = scores_of(verdicts, problems)
    joint = joint_difference(*arrays) if arrays else None
    if arrays is None or joint is None or joint.empty:  # no spread is no certainty
        arrays = joint = None
    changes = [paired_difference([*a.values()], [*b.values()]).estimate for a, b in verdicts]
    components = paired_components(*arrays) if arrays else None
    found = Pair(
        *what,
        *names,
        problems=paired_difference(before, after),
        seeds=spread(changes),
        joint=joint,
        detectable=detectable_here(*arrays) if arrays else variances.over_problems(before, after),
        common=len(verdicts),
        components=components,
        tokens=tokens,
        p=joint_p(*arrays) if arrays else paired_p(before, after),
        floor=floor_of(one for both in summaries for one in both),
    )
    return _corrected(found, verdicts, summaries)


def _corrected(found: Pair, verdicts: Sequence[tuple[Verdicts, Verdicts]], summaries: Summaries) -> Pair:
    """The comparison with the difference that is corrected for the verifier's errors, if both sides have measured them.

    Sides with errors of their own are compared by true scores, since their verdicts differ without a difference in
    accuracy, too.
    """
    errors = errors_of(summaries)
    if errors is None:
        return found
    if errors[0] is errors[1]:
        return replace(found, corrected=corrected_change(found.joint or found.problems, errors[0]))
    scores = [tuple(_true_scores(*side) for side in zip(both, errors, strict=True)) for both in verdicts]
    true = pair((found.split, found.rounds), (found.first, found.second), [(a, b) for a, b in scores], found.tokens)
    means = [[mark for one in scores for row in one[side].values() for mark in row] for side in (0, 1)]
    levels = statistics.fmean(means[0]), statistics.fmean(means[1])
    gap = true.joint or true.problems
    return replace(
        found, corrected=corrected_gap(gap, levels, errors), p=gap_p(gap, true.p, levels, errors), apart=True
    )


def _true_scores(verdicts: Verdicts, error: VerifierError) -> Verdicts:
    return {problem: [true_score(mark, error) for mark in marks] for problem, marks in verdicts.items()}


def scores_of(verdicts: Sequence[tuple[Verdicts, Verdicts]], problems: Sequence[tuple[str, str]]) -> Scores | None:
    """The verdicts of both groups as [seeds, problems, samples]; ``None`` with one seed, one problem, or if the numbers
    of samples differ within a group."""
    if len(verdicts) < 2 or len(problems) < 2:
        return None
    sides = [[[one[which][problem] for problem in problems] for one in verdicts] for which in (0, 1)]
    if any(len({len(row) for run in side for row in run}) > 1 for side in sides):
        return None
    return np.array(sides[0], dtype=float), np.array(sides[1], dtype=float)


def generated(run: Run) -> float:
    """Number of tokens that a run generated for training."""
    return float(sum(line.get("tokens/generated", 0) for line in run.metrics))


def markdown(found: Iterable[Pair]) -> str:
    """The pairs as a Markdown table, with a note on the intervals; below it, the variance components of differences."""
    found = list(found)
    labelled = any(pair.corrected for pair in found)
    headings = ["test split", "rounds", "first", "second", "over problems", "over seeds", "joint"]
    headings += [*(["corrected"] if labelled else []), "detectable", "training tokens", "p (Holm)", "seeds"]
    rows = []
    for pair in found:
        intervals = [points(value) for value in (pair.problems, pair.seeds, pair.joint)]
        intervals += [points(pair.corrected) + " †" * pair.apart] if labelled else []
        if pair.adjusted > LEVEL:
            intervals = [text if text == "-" else f"({text})" for text in intervals]
        intervals = [marked(text, pair.below_floor) for text in intervals]
        tokens, p = "-" if pair.tokens is None else f"x {pair.tokens:.2f}", p_value(pair.adjusted)
        row = [pair.split, str(pair.rounds), pair.first, pair.second, *intervals, variances.smallest(pair.detectable)]
        rows.append([*row, tokens, p, str(pair.common)])
    notes = [NOTE, *([CORRECTED] if labelled else []), *([APART] if any(pair.apart for pair in found) else [])]
    notes += [FLOOR] if any(pair.below_floor for pair in found) else []
    parts = [([*row[:4]], pair.components) for row, pair in zip(rows, found, strict=True) if pair.components]
    spread = variances.markdown("Spread of the differences.", headings[:4], parts)
    return f"{tables.markdown(headings, rows)}\n\n{' '.join(notes)}\n" + (f"\n{spread}" if spread else "")


def _recorded(run: Run, name: Name) -> Verdicts:
    """The verdicts after training on each problem, by its id and question; empty if the records are deleted."""
    summary = run.evaluations("after")[name]
    folder = run.path / "evaluation" / f"step_{summary['step']}"
    found: dict[tuple[str, str], list[float]] = {}
    for file in record_files(folder, name, summary):
        for record in read_jsonl(file):
            found.setdefault((record["id"], record["question"]), []).append(record["correct"])
    return found


def p_value(value: float) -> str:
    """A p-value with two significant digits."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def points(value: Interval | None) -> str:
    """An interval in points, with its sign."""
    return percent(value, "+")
