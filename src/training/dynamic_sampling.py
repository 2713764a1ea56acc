"""Dynamic sampling (DAPO, arXiv 2503.14476, equation 11): replace problems whose rollouts give no learning signal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from src.credit.base import Credited
from src.rounds.growing import numbered
from src.types import Problem, Rollout, Scores

Grow = Callable[[Sequence[Problem]], list[Rollout]]
Score = Callable[[Sequence[Rollout]], list[Scores]]
Credit = Callable[[Sequence[Rollout], Sequence[Scores]], Credited]


@dataclass(frozen=True)
class Batch:
    """Rollouts of a training step, their scores, and the training rows of the informative ones."""

    rollouts: list[Rollout]
    scores: list[Scores]
    credited: Credited
    dropped: int  # uninformative rollouts, replaced or not
    growing: float  # seconds spent generating rollouts

    @property
    def right(self) -> list[bool]:
        """Whether each training row is a final answer that is right."""
        found = {
            (turn.tree, turn.path)
            for rollout, score in zip(self.rollouts, self.scores, strict=True)
            for turn in rollout.leaves()
            if score.correct.get(turn.path, 0.0) >= 1
        }
        return [(row.tree, row.path) in found for row in self.credited.rows]


def collect(
    problems: Sequence[Problem], spare: Sequence[Problem], waves: int, grow: Grow, score: Score, credit: Credit
) -> Batch:
    """Generate, score and credit a rollout for each problem, resampling problems without signal.

    A rollout is informative if the correctness of compared turns differs. Uninformative rollouts are replaced by
    rollouts of ``spare`` problems in at most ``waves`` further waves, until ``len(problems)`` rollouts are informative
    or no spare is left. Only informative rollouts give training rows.
    """
    rollouts: list[Rollout] = []
    scores: list[Scores] = []
    kept: list[int] = []
    growing, wanted, rest = 0.0, list(problems), list(spare)
    for wave in range(waves + 1):
        begin = time.perf_counter()
        trees = [numbered(tree, len(rollouts) + place) for place, tree in enumerate(grow(wanted))]
        growing += time.perf_counter() - begin
        verdicts = score(trees)
        informative = _informative(trees, verdicts, credit)
        kept += [len(rollouts) + place for place in informative]
        rollouts += trees
        scores += verdicts
        dropped = [problem for place, problem in enumerate(wanted) if place not in informative]
        wanted = [_in_place_of(problem, other) for problem, other in zip(dropped, rest, strict=False)]
        rest = rest[len(wanted) :]
        if wave == waves or not wanted:
            break
    credited = credit([rollouts[tree] for tree in kept], [scores[tree] for tree in kept])
    return Batch(rollouts, scores, credited, len(rollouts) - len(kept), growing)


def _in_place_of(problem: Problem, spare: Problem) -> Problem:
    """``spare`` with what was decided about ``problem``: it is grown by the same part of a mixture."""
    return replace(problem, id=spare.id, question=spare.question, answer=spare.answer, metadata=spare.metadata)


def _informative(trees: Sequence[Rollout], scores: Sequence[Scores], credit: Credit) -> list[int]:
    """Indices of the rollouts with a sibling group whose trainable turns differ in correctness."""
    result = []
    for place, (tree, score) in enumerate(zip(trees, scores, strict=True)):
        groups: dict[Any, set[float]] = {}
        for row in credit([tree], [score]).rows:
            groups.setdefault(row.group, set()).add(score.correct[row.path])
        if any(len(values) > 1 for values in groups.values()):
            result.append(place)
    return result
