"""What a reward term is, and how terms on turns and on leaves become values on the whole tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, Literal, Protocol

from src.records import Path, Problem, Rollout, Scorer, Scores, Table, Turn


class Term(Protocol):
    """One thing to reward.

    ``at="leaves"`` scores where trees end, and a turn is worth the mean of its children; ``at="turns"`` scores every
    turn for itself.
    """

    at: ClassVar[Literal["leaves", "turns"]]
    weight: float

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        """The unweighted score of one turn; never raises on model text."""
        ...


def correctness(problem: Problem, turn: Turn, scorer: Scorer) -> float:
    """Whether the answer that a turn states is right, 0 to 1."""
    return scorer(problem, turn.said)


def backed_up(rollout: Rollout, leaf: Callable[[Turn], float]) -> dict[Path, float]:
    """Values on a tree: ``leaf`` where it ends, elsewhere the mean over live children.

    Counting children and not leaves keeps an early ending from weighing less than a long one. Turns that are neither
    live nor have live descendants have no value.
    """
    values: dict[Path, float] = {}
    below: dict[Path, list[float]] = {}
    for turn in reversed(rollout.turns):  # children come after their parents
        if not turn.live:
            continue
        parts = below.get(turn.path)
        values[turn.path] = sum(parts) / len(parts) if parts else leaf(turn)
        below.setdefault(turn.parent, []).append(values[turn.path])
    return values


def _score_of(term: Term, problem: Problem, scorer: Scorer, turn: Turn) -> float:
    return term.score(problem, turn, scorer)


@dataclass(frozen=True)
class Reward:
    """A weighted sum of terms."""

    terms: Mapping[str, Term]

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        return [] if self.terms else ["reward.terms is empty: there is nothing to learn from; name one term at least"]

    @property
    def looks_ahead(self) -> bool:
        """Whether any term needs the rounds after the first: without one, they are not sampled in training."""
        return any(term.at == "leaves" for term in self.terms.values())

    def score(self, rollouts: Sequence[Rollout], scorer: Scorer) -> list[Scores]:
        """Scores of each tree, in order."""
        return [self._score(rollout, scorer) for rollout in rollouts]

    def _score(self, rollout: Rollout, scorer: Scorer) -> Scores:
        problem = rollout.problem
        scorer = cache(scorer)  # a term and the plain correctness often ask for the same verdict
        correct = backed_up(rollout, lambda turn: correctness(problem, turn, scorer))
        terms: dict[str, Table] = {}
        for name, term in self.terms.items():
            if term.at == "leaves":
                terms[name] = backed_up(rollout, partial(_score_of, term, problem, scorer))
            else:
                terms[name] = {turn.path: term.score(problem, turn, scorer) for turn in rollout.turns if turn.live}
        values = {path: sum(self.terms[name].weight * table[path] for name, table in terms.items()) for path in correct}
        return Scores(terms, values, correct)
