"""Reward terms, and the backup of their scores from leaves and turns to values on the whole tree."""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import ClassVar, Literal

from src.settings import RunSettings, Section
from src.types import NumberError, Path, Problem, Rollout, Scorer, Scores, Table, Turn
from src.verifiers.judge import judged


class Term(Section, ABC):
    """One term of the reward.

    Its score is the verifier's verdict, unless a subclass overrides ``score``.
    ``at="leaves"`` scores the last turn of each branch, and the value of an earlier turn is the mean over its children.
    ``at="turns"`` scores every turn on its own.
    """

    judged: ClassVar[bool] = True  # whether the score depends on the verifier's verdict

    weight: float = 1.0

    @property
    @abstractmethod
    def at(self) -> Literal["leaves", "turns"]:
        """Which turns are scored; usually a class variable."""

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        """The unweighted score of one turn; never raises on model text."""
        return correctness(problem, turn, scorer)

    def scoring(self, rollout: Rollout, scorer: Scorer) -> Callable[[Turn], float]:
        """The function that scores the turns of a rollout; a term that compares turns overrides this."""
        return lambda turn: self.score(rollout.problem, turn, scorer)


def correctness(problem: Problem, turn: Turn, scorer: Scorer) -> float:
    """The verifier's score of the answer that a turn states, 0 to 1."""
    return scorer(problem, turn.said)


def backed_up(rollout: Rollout, leaf: Callable[[Turn], float]) -> dict[Path, float]:
    """Monte Carlo values of the turns of a graph: ``leaf`` at the leaves, elsewhere the mean over what quotes the turn.

    The mean has two levels: over the turns of each prompt that quotes the turn, then over these prompts, so that a
    prompt with more live turns does not weigh more. In a tree, one prompt quotes a turn, and this is the mean over
    children. It is not the mean over leaves, so that a branch that ends early weighs as much as a long one. If a
    state has probes, its value is their mean alone, because probes do not depend on the search or on later choices. The
    value of a pruned turn is the mean of its probes, or its own score if it is final. A pruned turn with neither, and a
    turn that was never generated, have no value.
    """
    values: dict[Path, float] = {}
    below: dict[tuple[Path, bool], dict[Path, list[float]]] = {}  # of each turn: values by prompt
    for turn in reversed(rollout.turns):  # turns come after their sources
        parts = below.get((turn.path, True)) or (below.get((turn.path, False)) if turn.live else None)
        if parts:
            means = [sum(part) / len(part) for part in parts.values()]
            values[turn.path] = sum(means) / len(means)
        elif turn.live or (turn.written and turn.final):
            values[turn.path] = leaf(turn)
        else:
            continue
        for source in turn.quoted:
            prompts = below.setdefault((source, turn.probe), {})
            prompts.setdefault(turn.family, []).append(values[turn.path])
    return values


def normalised(table: Table, epsilon: float = 1e-4) -> Table:
    """Normalise each number among siblings: subtract their mean, divide by their standard deviation (Bessel-corrected)
    + ``epsilon``. The result is exactly 0 if all siblings are equal."""
    siblings: dict[Path, list[Path]] = {}
    for path in table:
        siblings.setdefault(path[:-1], []).append(path)
    result: dict[Path, float] = {}
    for group in siblings.values():
        numbers = [table[path] for path in group]
        if min(numbers) == max(numbers):
            result |= dict.fromkeys(group, 0.0)
            continue
        mean, divisor = statistics.fmean(numbers), statistics.stdev(numbers) + epsilon
        result |= {path: (table[path] - mean) / divisor for path in group}
    return result


def _score_of(
    name: str, scored: Callable[[Turn], float], bad: Callable[[NumberError], None] | None, turn: Turn
) -> float:
    """The score of a turn, 0 where it is not a finite number and ``bad`` takes the error."""
    try:
        score: object = scored(turn)
        reason = f"is {score!r}, which is no finite number"
    except Exception as error:
        score, reason = None, f"raised {type(error).__name__}: {error}"
    if isinstance(score, Real) and math.isfinite(score):
        return float(score)
    wrong = NumberError(f"reward.terms.{name} {reason}", turn.tree, turn.path)
    if bad is None:
        raise wrong
    bad(wrong)
    return 0.0


class Reward(Section):
    """The reward: a weighted sum of terms.

    ``normalise="before"`` normalises each term among siblings before the sum, so that a term of small variance still
    counts (GDPO, arXiv 2601.05242, whose second step is ``algorithm.scale=batch``). Such values can be compared among
    siblings only, not across rounds. ``after`` leaves the scaling to the algorithm.
    """

    terms: Mapping[str, Term]
    normalise: Literal["after", "before"] = "after"

    def check(self) -> Iterable[str]:
        if not self.terms:
            yield "reward.terms is empty; use at least one term, e.g. reward=outcome"
        elif all(term.weight == 0 for term in self.terms.values()):
            yield "every weight in reward.terms is 0, so no rollout earns a reward; give at least one term a weight"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.algorithm is None or any(term.judged for term in self.terms.values() if term.weight):
            return
        users = {
            "max_resamples": "trains on the problems whose verdicts differ",
            "imitation": "imitates the answers with a right verdict",
        }
        for name, what in users.items():
            if value := getattr(run.algorithm, name):
                yield (
                    f"algorithm.{name}={value} {what}, but the terms {', '.join(self.terms)} of the reward stand for "
                    f"training without verdicts; use algorithm.{name}=0"
                )

    @property
    def looks_ahead(self) -> bool:
        """Whether a term needs the rounds after the first. If none does, training does not sample them."""
        return any(term.at == "leaves" for term in self.terms.values())

    def score(
        self, rollouts: Sequence[Rollout], scorer: Scorer, bad: Callable[[NumberError], None] | None = None
    ) -> list[Scores]:
        """Scores of each tree, in order.

        A term that raises or gives no finite number on a turn is an error; if ``bad`` takes the error, it scores 0.

        Raises:
            NumberError: such a score, without ``bad``.
        """
        asked = [(rollout.problem, turn.said) for rollout in rollouts for turn in rollout.leaves()]
        scorer = judged(scorer, asked)  # several terms, and the correctness of a turn, ask for the same verdicts
        return [self._score(rollout, scorer, bad) for rollout in rollouts]

    def _score(self, rollout: Rollout, scorer: Scorer, bad: Callable[[NumberError], None] | None) -> Scores:
        problem = rollout.problem
        correct = backed_up(rollout, lambda turn: correctness(problem, turn, scorer))
        terms: dict[str, Table] = {}
        for name, term in self.terms.items():
            score = partial(_score_of, name, term.scoring(rollout, scorer), bad)
            if term.at == "leaves":
                terms[name] = backed_up(rollout, score)
            else:
                terms[name] = {turn.path: score(turn) for turn in rollout.turns if turn.path in correct}
        plain = self._sum(terms, terms, correct)
        if self.normalise == "before":
            by_term = {name: normalised(table) for name, table in terms.items()}
            return Scores(terms, self._sum(terms, by_term, correct), correct, plain=plain)
        own = [name for name, term in self.terms.items() if term.at == "turns"]
        scores = Scores(terms, plain, correct, self._sum(own, terms, correct))
        first = [turn for turn in rollout.turns if turn.round == 1 and turn.path in correct]
        values = [scores.ahead(turn.path) for turn in first if turn.probe]
        values = values or [scores.ahead(turn.path) for turn in first]
        return replace(scores, prior=sum(values) / len(values) if values else 0.0)

    def _sum(self, names: Iterable[str], terms: Mapping[str, Table], paths: Iterable[Path]) -> Table:
        """The weighted sum of some of the terms."""
        return {path: sum(self.terms[name].weight * terms[name][path] for name in names) for path in paths}
