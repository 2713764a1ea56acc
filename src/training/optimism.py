"""Optimism of the choice of weights: the largest of several noisy validation accuracies is too high on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from src.evaluation.results import Evaluated
from src.evaluation.statistics import paired_difference

GREEDY = "evaluation.temperature=0 is greedy, so fresh answers would be the same answers"
"""Why the optimism of greedy answers is not measurable."""


def without_optimism(found: Mapping[str, Any]) -> dict[str, Any]:
    """The choice of weights whose answers are greedy: its optimism is not measurable."""
    return {**found, "optimism": None, "not_measurable": GREEDY}


def with_optimism(found: Mapping[str, Any], fresh: Evaluated) -> dict[str, Any]:
    """The choice of weights with the accuracy of fresh answers to the same problems, and the difference.

    The interval of the difference is over these problems. It is missing in runs that older versions began, whose
    checkpoints lack the verdicts of the choice.
    """
    accuracy = fresh.interval
    result = {
        **found,
        **{"fresh_accuracy": accuracy.estimate, "fresh_low": accuracy.low, "fresh_high": accuracy.high},
        "optimism": found["accuracy"] - accuracy.estimate,
    }
    if "per_problem" in found:
        paired = paired_difference(fresh.correct, [[right] for right in found["per_problem"]])
        result["fresh_per_problem"] = [right for (right,) in fresh.correct]
        result |= {"optimism_low": paired.low, "optimism_high": paired.high}
    return result
