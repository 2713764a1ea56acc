"""Variance components of accuracies and of differences, and the differences that evaluations of this size detect."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.evaluation.joint import (
    Components,
    components,
    detectable_here,
    detectable_over_problems,
    joint_difference,
    joint_interval,
)
from src.reporting.evaluations import rebuilt_verdicts
from src.reporting.runs import Group
from src.utils import tables

NOTE = (
    "Standard deviations in points (crossed random effects; arXiv 2512.21326): between training seeds, estimated and "
    "at most (upper limit at 80 % confidence), between problems, of seed and problem together, and between the answers "
    'of one policy to one problem (sampling). Where sampling is "-", seed x problem contains it: there is one answer '
    "per problem, or only the mean of graded answers is known."
)


def by_problem(found: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """Verdicts, [seeds, problems, samples], of evaluations of the same problems under several seeds.

    Means over samples, [seeds, problems, 1], if the verdicts are graded or the numbers of samples differ. ``None`` if
    there is one seed, or if the summaries do not hold the verdicts by problem, as those of older versions.
    """
    verdicts = [rebuilt_verdicts(one) for one in found]
    if len(found) < 2 or len(verdicts[0]) < 2 or any(one.keys() != verdicts[0].keys() for one in verdicts):
        return None
    if len({len(row) for one in verdicts for row in one.values()}) > 1:
        return np.array([[[statistics.fmean(row)] for row in one.values()] for one in verdicts])
    return np.array([[*one.values()] for one in verdicts])


def of_groups(groups: Iterable[Group]) -> str:
    """A Markdown table of the variance components of accuracies after training, with a note; empty without any."""
    groups = list(groups)
    names = {name for group in groups for name in group.runs[0].evaluations("after")}
    rows = []
    for group in groups:
        for name in group.runs[0].evaluations("after"):
            found = [run.evaluations("after").get(name, {}) for run in group.runs]
            scores = by_problem(found)
            if scores is not None and not joint_interval(scores).empty:
                rows.append(([group.label, name.label(names), str(name.rounds)], components(scores)))
    return markdown("Spread of accuracies after training.", ["runs", "test split", "rounds"], rows)


def markdown(title: str, headings: Sequence[str], rows: Sequence[tuple[Sequence[str], Components]]) -> str:
    """A Markdown table of variance components below ``title``, with a note; empty without rows.

    ``headings`` are those of the labels of each row. A first column of empty labels is left out.
    """
    if not rows:
        return ""
    parts = ["seed", "seed, at most", "problem", "seed x problem", "sampling"]
    cells = [[*labels, *deviations(found)] for labels, found in rows]
    return f"{title}\n\n{tables.labelled([*headings, *parts], cells)}\n\n{NOTE}\n"


def deviations(found: Components) -> list[str]:
    """The standard deviations in points: seed, its upper limit, problem, seed x problem, and sampling."""
    values = (found.seed, found.seed_limit, found.problem, found.both)
    sampling = f"{100 * math.sqrt(found.sampling):.1f}" if found.sampling_known else "-"
    return [*(f"{100 * math.sqrt(value):.1f}" for value in values), sampling]


def detectable_change(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> float | None:
    """The smallest change that evaluations of this size find in 80 % of repetitions; infinite if none is.

    With several seeds it is over seeds, problems and samples, with one seed over problems. ``None`` if the summaries do
    not hold the verdicts by problem, or if all of these change by the same.
    """
    first, second = by_problem(before), by_problem(after)
    if first is not None and second is not None and first.shape[:2] == second.shape[:2]:
        if joint_difference(first, second).empty:
            return None
        return detectable_here(first, second)
    if len(after) > 1:
        return None
    (a, b) = (rebuilt_verdicts(side[0]) for side in (before, after))
    if not a or a.keys() != b.keys():
        return None
    return over_problems([*a.values()], [b[key] for key in a])


def over_problems(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float | None:
    """The detectable difference over problems alone, from the verdicts of both sides on each problem."""
    return detectable_over_problems(
        [statistics.fmean(b) - statistics.fmean(a) for a, b in zip(before, after, strict=True)]
    )


def smallest(value: float | None) -> str:
    """A detectable difference in points."""
    if value is None:
        return "-"
    return "> 100" if math.isinf(value) else f"{100 * value:.1f}"
