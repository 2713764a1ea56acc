"""Comparing thoughts: what the searches share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from src.types import Turn
from src.verifiers.tags import progress, stated_answer


def thought(turn: Turn) -> str:
    """What a turn came to, for comparison with others: the answer that it states, else its progress; no white space."""
    answer = stated_answer(turn.said)
    return "".join((progress(turn.said) if answer is None else answer).split())


def by_votes(thoughts: Sequence[str]) -> list[int]:
    """Indices ordered so that the most common thought comes first, then one of the second … and only then its copies,
    so that a wide beam holds different thoughts; ties in order of appearance."""
    counts, seen = Counter(thoughts), Counter[str]()
    keys = []
    for index, one in enumerate(thoughts):
        keys.append((seen[one], -counts[one], index))
        seen[one] += 1
    return [index for _, _, index in sorted(keys)]
