"""What a comparison of two methods would find with other numbers of seeds and samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

from src.evaluation.joint import Components, detectable, joint_difference, paired_components
from src.reporting.pairs import Scores, points
from src.reporting.settings import PlanCommand
from src.reporting.variances import smallest
from src.utils import tables
from src.utils.tables import counted

ONE_SAMPLE = (
    "The data have one sample per problem, so the variance of sampling cannot be told from that of seed x problem. "
    "Only the number of samples that was taken is shown."
)
MEANS = (
    "The verdicts are graded and their records are deleted. The summaries only hold means over the samples of a "
    "problem, so the variance of sampling is unknown. Only the number of samples that was taken is shown."
)

NO_SPREAD = (
    "The data show no spread: all seeds and problems have the same difference, e.g. since both methods solve all "
    "problems or none. No design can be computed from them; compare the methods on other problems."
)

Design = tuple[int, int]
"""Numbers of seeds and of samples per problem."""


def design(settings: PlanCommand, name: str, scores: Scores, taken: tuple[int, int] | None = None) -> str:
    """A page for one comparison, whose scores have the shape [seeds, problems, samples]: its variance components, and
    the smallest difference that each design finds, in points.

    ``taken`` are the samples per problem of both groups, if the scores hold only their means. The recommended design
    allows for the upper limit of the variance between seeds. In simulations, 14, 6 and 5 % of the designs recommended
    from 2, 3 and 5 seeds have a power below 60 %; by the estimated variance alone, 45, 29 and 17 %.
    """
    first, second = scores
    taken = taken or (first.shape[2], second.shape[2])
    difference = joint_difference(first, second)
    of = f"{first.shape[0]} seeds, {first.shape[1]} problems and {_samples(taken)}"
    measured = f"## {name}\n\nMeasured with {of}: {points(difference)} points. "
    if difference.empty:
        return f"{measured}{NO_SPREAD}\n"
    found = paired_components(first, second)
    problems = settings.problems or first.shape[1]
    columns = settings.samples if found.sampling_known else taken[:1]
    headings = [counted(samples, "sample") for samples in columns] if found.sampling_known else [_samples(taken)]
    each = dict(zip(columns, headings, strict=True))
    table, enough = _table(settings, found, problems, each)
    limits, safe = _table(settings, found.cautious, problems, each)
    limit = f"at its upper limit (a standard deviation of {100 * math.sqrt(found.seed_limit):.1f} points)"
    parts = [
        f"{measured}Standard deviations of the difference, in points: {_deviations(found)}.",
        f"Smallest difference found with power {settings.power:.0%} on {problems} problems, in points, with the "
        "variances as estimated:",
        table,
        f"The same with the variance between seeds {limit}. The true variance is below it with 80 % confidence:",
        limits,
    ]
    if not found.sampling_known:
        parts.append(ONE_SAMPLE if min(taken) == 1 else MEANS)
    parts.append(_advice(settings.effect, enough, safe, each, first.shape[0]))
    return "\n\n".join(parts) + "\n"


def _table(
    settings: PlanCommand, found: Components, problems: int, each: Mapping[int, str]
) -> tuple[str, Design | None]:
    """The smallest difference of each design, in points, and the first design that finds the wanted one."""
    rows, enough = [], []
    for seeds in settings.seeds:
        cells = []
        for samples in each:
            difference = detectable(found, seeds, problems, samples, settings.power)
            cells.append(smallest(difference))
            if 100 * difference <= settings.effect:
                enough.append((seeds, samples))
        rows.append([str(seeds), *cells])
    return tables.markdown(["seeds", *each.values()], rows), min(enough, default=None)


def _advice(effect: float, enough: Design | None, safe: Design | None, each: Mapping[int, str], seeds: int) -> str:
    """The recommended design in words."""
    if enough is None:
        return f"None of these designs finds a difference of {effect:g} points with that power."
    few = f"{enough[0]} seeds and {each[enough[1]]}"
    doubt = f"but {seeds} seeds estimate that variance poorly, and it may be larger."
    if safe is None:
        return (
            f"None of these designs finds a difference of {effect:g} points with the variance between seeds at its "
            f"upper limit. With the estimated variance, {few} a problem are enough, {doubt}"
        )
    advice = f"A difference of {effect:g} points takes {safe[0]} seeds and {each[safe[1]]} a problem"
    if safe == enough:
        return f"{advice}, with the variance between seeds as estimated and at its upper limit."
    return (
        f"{advice}: so many find it even with the variance between seeds at its upper limit. With the estimated "
        f"variance, {few} are enough, {doubt}"
    )


def _samples(taken: tuple[int, int]) -> str:
    """The samples per problem of both groups, in words."""
    return counted(taken[0], "sample") if taken[0] == taken[1] else f"{taken[0]} and {taken[1]} samples"


def _deviations(found: Components) -> str:
    """The standard deviations of the components, in points."""
    parts = [("seed", found.seed), ("problem", found.problem), ("seed x problem", found.both)]
    parts += [("sampling", found.sampling)] if found.sampling_known else []
    listed = ", ".join(f"{part} {100 * math.sqrt(value):.1f}" for part, value in parts)
    return listed if found.sampling_known else f"{listed} (with sampling)"
