"""What a comparison of two methods would find with other numbers of seeds and samples."""

from __future__ import annotations

import math

from src.evaluation.joint import Components, detectable, joint_difference, paired_components
from src.reporting.pairs import Scores, points
from src.reporting.settings import PlanCommand
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


def design(settings: PlanCommand, name: str, scores: Scores, taken: tuple[int, int] | None = None) -> str:
    """A page for one comparison, whose scores have the shape [seeds, problems, samples]: its variance components, and
    the smallest difference that each design finds, in points.

    ``taken`` are the samples per problem of both groups, if the scores hold only their means.
    """
    first, second = scores
    taken = taken or (first.shape[2], second.shape[2])
    found = paired_components(first, second)
    problems = settings.problems or first.shape[1]
    columns = settings.samples if found.sampling_known else taken[:1]
    headings = [counted(samples, "sample") for samples in columns] if found.sampling_known else [_samples(taken)]
    rows, enough = [], []
    for seeds in settings.seeds:
        cells = []
        for samples, heading in zip(columns, headings, strict=True):
            smallest = detectable(found, seeds, problems, samples, settings.power)
            cells.append("-" if math.isinf(smallest) else f"{100 * smallest:.1f}")
            if 100 * smallest <= settings.effect:
                enough.append((seeds, samples, heading))
        rows.append([str(seeds), *cells])
    lines = [
        f"## {name}",
        "",
        f"Measured with {first.shape[0]} seeds, {first.shape[1]} problems and {_samples(taken)}: "
        f"{points(joint_difference(first, second))} points. Standard deviations of "
        f"the difference, in points: {_deviations(found)}.",
        "",
        f"Smallest difference found with power {settings.power:.0%} on {problems} problems, in points:",
        "",
        tables.markdown(["seeds", *headings], rows),
        "",
    ]
    if not found.sampling_known:
        lines += [ONE_SAMPLE if min(taken) == 1 else MEANS, ""]
    if enough:
        seeds, _, samples_each = min(enough)
        lines.append(f"A difference of {settings.effect:g} points takes {seeds} seeds and {samples_each} a problem.")
    else:
        lines.append(f"None of these designs finds a difference of {settings.effect:g} points with that power.")
    return "\n".join(lines) + "\n"


def _samples(taken: tuple[int, int]) -> str:
    """The samples per problem of both groups, in words."""
    return counted(taken[0], "sample") if taken[0] == taken[1] else f"{taken[0]} and {taken[1]} samples"


def _deviations(found: Components) -> str:
    """The standard deviations of the components, in points."""
    parts = [("seed", found.seed), ("problem", found.problem), ("seed x problem", found.both)]
    parts += [("sampling", found.sampling)] if found.sampling_known else []
    listed = ", ".join(f"{part} {100 * math.sqrt(value):.1f}" for part, value in parts)
    return listed if found.sampling_known else f"{listed} (with sampling)"
