"""The verifier's errors (``evaluation.labelled``) in comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src.evaluation.corrected_changes import corrected_change
from src.evaluation.measuring import VerifierError
from src.evaluation.statistics import Interval

Summaries = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
"""For each seed, the summaries of both sides of a comparison."""


def error_of(summaries: Iterable[Mapping[str, Any]]) -> tuple[VerifierError, str | None] | None:
    """The verifier's errors in the evaluations of one side, and the hash of the labelled answers that they come from.

    ``None`` if an evaluation lacks them, or if they differ between seeds.
    """
    found = {
        (VerifierError(**one["verifier_error"]), one.get("decided_by", {}).get("labelled"))
        if "verifier_error" in one
        else None
        for one in summaries
    }
    return found.pop() if len(found) == 1 else None


def errors_of(summaries: Summaries) -> tuple[VerifierError, VerifierError] | None:
    """The verifier's errors on both sides, the same object twice if both come from the same labelled answers."""
    first, second = (error_of(side) for side in zip(*summaries, strict=True)) if summaries else (None, None)
    if first is None or second is None:
        return None
    return (first[0], first[0]) if first == second else (first[0], second[0])


def change_corrected(change: Interval | None, summaries: Summaries) -> Interval | None:
    """A change of one policy, corrected for the verifier's errors; ``None`` without errors that both sides share."""
    errors = errors_of(summaries)
    return corrected_change(change, errors[0]) if change and errors and errors[0] is errors[1] else None
