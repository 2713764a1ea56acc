"""Comparison of candidates by their answers, shared by the search rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from src.types import Turn
from src.verifiers.tags import progress, stated_answer


def thought(turn: Turn) -> str:
    """The result of a turn, to compare it with others: its stated answer, else its progress, without white space."""
    answer = stated_answer(turn.said)
    return "".join((progress(turn.said) if answer is None else answer).split())


def by_votes(thoughts: Sequence[str]) -> list[int]:
    """Indices of ``thoughts`` by number of votes: first one copy of each distinct thought, most common first, then the
    second copies and so on. A beam therefore holds different thoughts. Ties keep their order."""
    counts, seen = Counter(thoughts), Counter[str]()
    keys = []
    for index, one in enumerate(thoughts):
        keys.append((seen[one], -counts[one], index))
        seen[one] += 1
    return [index for _, _, index in sorted(keys)]
