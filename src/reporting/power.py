"""What a comparison of two methods would find with other numbers of seeds and samples."""

from __future__ import annotations

import math

from src.evaluation.joint import detectable, joint_difference, paired_components
from src.reporting.pairs import Scores, points
from src.reporting.settings import PlanCommand
from src.utils import tables


def design(settings: PlanCommand, name: str, scores: Scores) -> str:
    """A page for one comparison, whose scores have the shape [seeds, problems, samples]: its variance components, and
    the smallest difference that each design finds, in points."""
    first, second = scores
    found = paired_components(first, second)
    problems = settings.problems or first.shape[1]
    rows, enough = [], []
    for seeds in settings.seeds:
        cells = []
        for samples in settings.samples:
            smallest = detectable(found, seeds, problems, samples, settings.power)
            cells.append("-" if math.isinf(smallest) else f"{100 * smallest:.1f}")
            if 100 * smallest <= settings.effect:
                enough.append((seeds, samples))
        rows.append([str(seeds), *cells])
    parts = [("seed", found.seed), ("problem", found.problem), ("seed x problem", found.both)]
    parts.append(("sampling", found.sampling))
    lines = [
        f"## {name}",
        "",
        f"Measured with {first.shape[0]} seeds, {first.shape[1]} problems and {first.shape[2]} samples: "
        f"{points(joint_difference(first, second))} points. Standard deviations of "
        f"the difference, in points: {', '.join(f'{part} {100 * math.sqrt(value):.1f}' for part, value in parts)}.",
        "",
        f"Smallest difference found with power {settings.power:.0%} on {problems} problems, in points:",
        "",
        tables.markdown(["seeds", *(f"{samples} samples" for samples in settings.samples)], rows),
        "",
    ]
    if enough:
        seeds, samples = min(enough)
        lines.append(f"A difference of {settings.effect:g} points takes {seeds} seeds and {samples} samples a problem.")
    else:
        lines.append(f"None of these designs finds a difference of {settings.effect:g} points with that power.")
    return "\n".join(lines) + "\n"
