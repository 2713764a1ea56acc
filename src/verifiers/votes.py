"""Merge stated answers that mean the same (1/2 and 0.5) before votes are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from src.verifiers.equivalence import Equivalence


def merged(answers: Sequence[str | None], same: Callable[[str, str], bool] | None = None) -> list[str | None]:
    """``answers`` with each one replaced by the first that means the same.

    ``same`` is mathematical equivalence unless given, whatever the verifier of the run: a vote knows no gold answer.
    """
    same = same or _equivalence()
    first: dict[str, str] = {}
    for answer in answers:
        if answer is not None and answer not in first:
            first[answer] = next((one for one in dict.fromkeys(first.values()) if same(one, answer)), answer)
    return [None if answer is None else first[answer] for answer in answers]


@lru_cache(maxsize=1)
def _equivalence() -> Equivalence:
    return Equivalence()
