"""Dynamic sampling (DAPO, arXiv 2503.14476, equation 11): replace problems whose rollouts teach nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from src.credit.base import Credited
from src.types import Problem, Rollout, Scores

Grow = Callable[[Sequence[Problem]], list[Rollout]]
Score = Callable[[Sequence[Rollout]], list[Scores]]
Credit = Callable[[Sequence[Rollout], Sequence[Scores]], Credited]


@dataclass(frozen=True)
class Batch:
    """The rollouts of a step, all that were grown, and the rows of those that are learned from."""

    rollouts: list[Rollout]
    scores: list[Scores]
    credited: Credited
    dropped: int  # rollouts that were replaced, or could not be
    growing: float  # seconds


def collect(
    problems: Sequence[Problem], spare: Sequence[Problem], waves: int, grow: Grow, score: Score, credit: Credit
) -> Batch:
    """Grow, score and credit a rollout for each problem.

    Rollouts whose answers are all equally right teach nothing by comparison. They are replaced by those of spare
    problems, in at most ``waves`` further waves, until there are ``len(problems)`` informative ones or the spares are
    used up; only informative rollouts are learned from.
    """
    rollouts: list[Rollout] = []
    scores: list[Scores] = []
    kept: list[int] = []
    growing, wanted, rest = 0.0, list(problems), list(spare)
    for wave in range(waves + 1):
        begin = time.perf_counter()
        trees = [_numbered(tree, len(rollouts) + place) for place, tree in enumerate(grow(wanted))]
        growing += time.perf_counter() - begin
        verdicts = score(trees)
        kept += [len(rollouts) + place for place in _informative(trees, verdicts, credit)]
        rollouts += trees
        scores += verdicts
        missing = len(problems) - len(kept)
        wanted, rest = rest[:missing], rest[missing:]
        if wave == waves or not wanted:
            break
    credited = credit([rollouts[tree] for tree in kept], [scores[tree] for tree in kept])
    return Batch(rollouts, scores, credited, len(rollouts) - len(kept), growing)


def _informative(trees: Sequence[Rollout], scores: Sequence[Scores], credit: Credit) -> list[int]:
    """Places of the trees in which turns that are compared, and would learn, differ in correctness."""
    result = []
    for place, (tree, score) in enumerate(zip(trees, scores, strict=True)):
        groups: dict[Any, set[float]] = {}
        for row in credit([tree], [score]).rows:
            groups.setdefault(row.group, set()).add(score.correct[row.path])
        if any(len(values) > 1 for values in groups.values()):
            result.append(place)
    return result


def _numbered(tree: Rollout, number: int) -> Rollout:
    """The tree under its number in the step, whichever wave it grew in."""
    return replace(tree, turns=tuple(replace(turn, tree=number) for turn in tree.turns))
