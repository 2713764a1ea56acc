"""Which problems a step grows trees from, and which of the trees are learned from."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from src.credit.base import Credited
from src.types import Problem, Rollout, Scores

Grow = Callable[[Sequence[Problem]], list[Rollout]]
Score = Callable[[Sequence[Rollout]], list[Scores]]
Credit = Callable[[Sequence[Rollout], Sequence[Scores]], Credited]


@dataclass(frozen=True)
class Collected:
    """The trees of a step, all that were grown, and the rows of those that are learned from."""

    rollouts: list[Rollout]
    scores: list[Scores]
    credited: Credited
    dropped: int  # trees that were replaced, or could not be
    growing: float  # seconds


def order(count: int, seed: int, step: int, size: int) -> list[int]:
    """Indices of the problems of a step (0-based): every epoch a new permutation that the seed fixes.

    No step spans two epochs (what is left of one is dropped), so no problem stands in a step twice.
    """
    epoch, batch = divmod(step, count // size)
    return _permutation(count, f"{seed}/{epoch}")[batch * size : (batch + 1) * size]


def spares(count: int, seed: int, step: int, taken: Sequence[int]) -> list[int]:
    """The other problems in an order of the step's own, so that how many are used changes no later step."""
    used = set(taken)
    return [index for index in _permutation(count, f"{seed}/spares/{step}") if index not in used]


@lru_cache(maxsize=2)
def _permutation(count: int, key: str) -> list[int]:
    indices = list(range(count))
    random.Random(key).shuffle(indices)
    return indices


def collect(
    problems: Sequence[Problem], spare: Sequence[Problem], waves: int, grow: Grow, score: Score, credit: Credit
) -> Collected:
    """Grow, score and credit a tree for each problem.

    With ``waves``, trees whose answers are all equally right teach nothing by comparison and are replaced by those of
    spare problems, in at most so many waves, until ``len(problems)`` informative ones stand or the spares are used up;
    only these are learned from (dynamic sampling, DAPO, arXiv 2503.14476, equation 11).
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
    chosen = kept if waves else list(range(len(rollouts)))
    credited = credit([rollouts[tree] for tree in chosen], [scores[tree] for tree in chosen])
    return Collected(rollouts, scores, credited, len(rollouts) - len(chosen), growing)


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
