"""Comparison of candidates by their answers, shared by the search rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from src.types import Turn
from src.verifiers.tags import progress, stated_answer
from src.verifiers.votes import merged


class Thought(NamedTuple):
    """The result of a turn, without white space: its stated answer, or its progress if it states none."""

    text: str
    stated: bool


def thoughts(turns: Sequence[Turn]) -> list[Thought]:
    """The results of turns, to compare them. Answers that mean the same have one spelling.

    Progress is compared by spelling, since steps of the same value are different steps, and never equals an answer.
    """
    answers = merged([stated_answer(turn.said) for turn in turns])
    return [
        Thought("".join((progress(turn.said) if answer is None else answer).split()), answer is not None)
        for turn, answer in zip(turns, answers, strict=True)
    ]


def ranked(turns: Sequence[Turn]) -> list[int]:
    """Indices of ``turns`` by the votes for their results; turns of the last round that state no answer come last."""
    own = thoughts(turns)
    return sorted(by_votes(own), key=lambda index: turns[index].final and not own[index].stated)


def by_votes(thoughts: Sequence[Hashable]) -> list[int]:
    """Indices of ``thoughts`` by number of votes: first one copy of each distinct thought, most common first, then the
    second copies and so on. A beam therefore holds different thoughts. Ties keep their order."""
    counts, seen = Counter(thoughts), Counter[Hashable]()
    keys = []
    for index, one in enumerate(thoughts):
        keys.append((seen[one], -counts[one], index))
        seen[one] += 1
    return [index for _, _, index in sorted(keys)]
