"""Faults of memory in training and in the engine."""

from __future__ import annotations

from collections.abc import Callable

from src.utils import checkpoints
from tests.chaos.faults import Place
from tests.chaos.victims import STEPS, at, begin, start


def out_of_memory(place: Place, phase: str, error: Callable[[], BaseException]) -> str:
    """Memory runs out when a phase is entered: a sentence, and the run resumes."""
    place.fresh()

    def fail() -> None:
        raise error()

    ended = start(begin(place.run), place.log, at(phase, STEPS, fail))
    if ended.code != 1 or "stopped: memory ran out" not in ended.output or "Traceback" in ended.output:
        return f"exit code {ended.code} without a sentence"
    if checkpoints.steps(place.run)[-1:] != [STEPS - 1]:
        return "no checkpoint of the step before"
    return place.finished(place.run)
