"""Comparison of candidates by their answers, shared by the search rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from src.types import Turn
from src.verifiers.tags import progress, stated_answer
from src.verifiers.votes import merged


def thoughts(turns: Sequence[Turn]) -> list[str]:
    """The results of turns, to compare them: stated answers, those that mean the same in one spelling, else progress.

    White space does not count. Progress is compared by spelling, since steps of the same value are different steps.
    """
    answers = merged([stated_answer(turn.said) for turn in turns])
    return [
        "".join((progress(turn.said) if answer is None else answer).split())
        for turn, answer in zip(turns, answers, strict=True)
    ]


def by_votes(thoughts: Sequence[str]) -> list[int]:
    """Indices of ``thoughts`` by number of votes: first one copy of each distinct thought, most common first, then the
    second copies and so on. A beam therefore holds different thoughts. Ties keep their order."""
    counts, seen = Counter(thoughts), Counter[str]()
    keys = []
    for index, one in enumerate(thoughts):
        keys.append((seen[one], -counts[one], index))
        seen[one] += 1
    return [index for _, _, index in sorted(keys)]
