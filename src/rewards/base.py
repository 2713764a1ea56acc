"""What a reward term is, and how terms on turns and on leaves become values on the whole tree."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import ClassVar, Literal

from src.settings import Section
from src.types import Path, Problem, Rollout, Scorer, Scores, Table, Turn


class Term(Section, ABC):
    """One term of the reward.

    ``at="leaves"`` scores the last turn of each branch, and an earlier turn is worth the mean of its children;
    ``at="turns"`` scores every turn for itself.
    """

    at: ClassVar[Literal["leaves", "turns"]]
    weight: float = 1.0

    @abstractmethod
    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        """The unweighted score of one turn; never raises on model text."""


def correctness(problem: Problem, turn: Turn, scorer: Scorer) -> float:
    """Whether the answer that a turn states is right, 0 to 1."""
    return scorer(problem, turn.said)


def backed_up(rollout: Rollout, leaf: Callable[[Turn], float]) -> dict[Path, float]:
    """Values on a tree: ``leaf`` where it ends, elsewhere the mean over children.

    Counting children and not leaves keeps an early ending from weighing less than a long one. Where a state has probes,
    they alone tell its value: they are independent of what was chosen after it. A pruned turn is worth what its probes
    say, or its own score if it is final; a turn without either, and one that was not written, has no value.
    """
    values: dict[Path, float] = {}
    below: dict[tuple[Path, bool], list[float]] = {}
    for turn in reversed(rollout.turns):  # children come after their parents
        parts = below.get((turn.path, True)) or (below.get((turn.path, False)) if turn.live else None)
        if parts:
            values[turn.path] = sum(parts) / len(parts)
        elif turn.live or (turn.written and turn.final):
            values[turn.path] = leaf(turn)
        else:
            continue
        below.setdefault((turn.parent, turn.probe), []).append(values[turn.path])
    return values


def normalised(table: Table, epsilon: float = 1e-4) -> Table:
    """Each turn's number against its siblings': minus their mean, over their standard deviation (Bessel-corrected) +
    ``epsilon``; exactly 0 where all are equal."""
    siblings: dict[Path, list[Path]] = {}
    for path in table:
        siblings.setdefault(path[:-1], []).append(path)
    result: dict[Path, float] = {}
    for group in siblings.values():
        numbers = [table[path] for path in group]
        mean, equal = statistics.fmean(numbers), min(numbers) == max(numbers)
        spread = 0.0 if equal else statistics.stdev(numbers)
        result |= {path: 0.0 if equal else (table[path] - mean) / (spread + epsilon) for path in group}
    return result


def _score_of(term: Term, problem: Problem, scorer: Scorer, turn: Turn) -> float:
    return term.score(problem, turn, scorer)


class Reward(Section):
    """A weighted sum of terms.

    ``normalise="before"`` normalises each term among siblings and then sums them, so that a term of small variance
    still counts (GDPO, arXiv 2601.05242, whose second step is ``algorithm.scale=batch``). Such values compare siblings
    only; they are not comparable across rounds. ``after`` leaves scaling to the algorithm.
    """

    terms: Mapping[str, Term]
    normalise: Literal["after", "before"] = "after"

    def check(self) -> Iterable[str]:
        if not self.terms:
            yield "reward.terms is empty: there is nothing to learn from; name one term at least"

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
                terms[name] = {
                    turn.path: term.score(problem, turn, scorer) for turn in rollout.turns if turn.path in correct
                }
        plain = self._sum(terms, terms, correct)
        if self.normalise == "before":
            compared = {name: normalised(table) for name, table in terms.items()}
            return Scores(terms, self._sum(terms, compared, correct), correct, plain=plain)
        own = [name for name, term in self.terms.items() if term.at == "turns"]
        scores = Scores(terms, plain, correct, self._sum(own, terms, correct))
        first = [turn for turn in rollout.turns if turn.round == 1 and turn.path in correct]
        told = [scores.ahead(turn.path) for turn in first if turn.probe] or [scores.ahead(turn.path) for turn in first]
        return replace(scores, prior=sum(told) / len(told) if told else 0.0)

    def _sum(self, names: Iterable[str], terms: Mapping[str, Table], paths: Iterable[Path]) -> Table:
        """The weighted sum of some of the terms."""
        return {path: sum(self.terms[name].weight * terms[name][path] for name in names) for path in paths}
