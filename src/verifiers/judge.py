"""``Judge`` asks a verifier for verdicts on many texts. A verifier that fails scores 0 and never stops the run."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Iterable, Sequence

from src.types import Problem, Scorer

logger = logging.getLogger(__name__)

Asked = tuple[Problem, str]
"""A problem, and the text that is judged."""


class Judge:
    """A scorer by name. A text without a verdict scores 0 and is counted in ``failures``.

    There is no verdict where the scorer raises, returns NaN (out of time or memory, no reply) or anything else than a
    number from 0 to 1. The first failure is logged. ``at_once`` texts are judged at the same time, in threads.
    """

    def __init__(self, name: str, scorer: Scorer, at_once: int = 1) -> None:
        self.name, self.scorer, self.at_once = name, scorer, at_once
        self.failures = 0
        self._lock = threading.Lock()

    def __call__(self, problem: Problem, text: str) -> float:
        """The verdict on one text, 0 to 1."""
        try:
            verdict: object = self.scorer(problem, text)
        except Exception as error:
            return self._failed(problem, f"it raised {type(error).__name__}: {error}")
        number = float(verdict) if isinstance(verdict, (bool, int, float)) else -1.0
        if math.isnan(number):
            return self._failed(problem, "it ran out of time or memory, or said neither yes nor no")
        if not 0 <= number <= 1:
            return self._failed(problem, f"it returned {verdict!r}, which is not a number from 0 to 1")
        return number

    def all(self, asked: Sequence[Asked]) -> list[float]:
        """The verdicts on texts, in order; a text that occurs twice is judged once."""
        different = list(dict.fromkeys(asked))
        known: dict[Asked, float] = {}
        waiting = deque(different)

        def work() -> None:
            while True:
                try:
                    one = waiting.popleft()
                except IndexError:  # none is left
                    return
                known[one] = self(*one)

        threads = [threading.Thread(target=work) for _ in range(min(self.at_once, len(different)) - 1)]
        for thread in threads:
            thread.start()
        try:
            work()
        finally:
            waiting.clear()
            for thread in threads:
                thread.join()
        return [known[one] for one in asked]

    def _failed(self, problem: Problem, reason: str) -> float:
        with self._lock:
            self.failures += 1
            first = self.failures == 1
        if first:
            logger.warning(
                "verifier %s gave no verdict on an answer to %s: %s. The answer scores 0; further failures are counted "
                "as verifier_failures",
                self.name,
                problem.id,
                reason,
            )
        return 0.0


def verdicts(scorer: Scorer, asked: Sequence[Asked]) -> list[float]:
    """The scorer's verdicts on texts, in order: all at once where it can."""
    return scorer.all(asked) if isinstance(scorer, Judge) else [scorer(*one) for one in asked]


def recalled(scorer: Scorer, asked: Sequence[Asked], known: dict[Asked, float]) -> list[float]:
    """The scorer's verdicts on texts, in order. Those in ``known`` are not asked for again; new ones are added."""
    new = [one for one in dict.fromkeys(asked) if one not in known]
    known |= zip(new, verdicts(scorer, new), strict=True)
    return [known[one] for one in asked]


def judged(scorer: Scorer, asked: Sequence[Asked]) -> Scorer:
    """A scorer that knows the verdicts on ``asked``, and remembers those that it is asked for."""
    known = dict(zip(asked, verdicts(scorer, asked), strict=True))

    def score(problem: Problem, text: str) -> float:
        if (problem, text) not in known:
            known[problem, text] = scorer(problem, text)
        return known[problem, text]

    return score


def failures(scorers: Iterable[Scorer]) -> int:
    """Verdicts that were not given so far."""
    return sum(scorer.failures for scorer in scorers if isinstance(scorer, Judge))
