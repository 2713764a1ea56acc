"""Function: a plain Python function of one's own, without a class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from src.types import Problem, Scorer
from src.verifiers.base import Verifier
from src.verifiers.tags import stated_answer


class Function(Verifier):
    r"""Calls ``function(question, gold, answer, **settings)``, which returns a number from 0 to 1.

    ``function`` is a dotted name that Python can import here, such as ``mypackage.judges.close_enough``. ``answer`` is
    what the text states in its box; a text that states none scores 0. With ``whole=true`` it is the whole text.
    """

    function: str
    settings: Mapping[str, Any] = {}
    whole: bool = False
    gold: bool = True  # whether problems without a gold answer are refused

    @property
    def name(self) -> str:
        return self.function.rpartition(".")[2]

    @property
    def needs_gold(self) -> bool:
        return self.gold

    def check(self) -> Iterable[str]:
        try:
            inspect.signature(self._function()).bind("", "", "", **self.settings)
        except (ImportError, AttributeError, ValueError) as error:
            yield f"verifier.function={self.function} cannot be imported: {error}; use <module>.<function>"
        except TypeError as error:
            yield f"verifier.function={self.function} does not take (question, gold, answer) and settings: {error}"

    def scorer(self, own: Scorer) -> Scorer:
        function, settings = self._function(), dict(self.settings)

        def score(problem: Problem, text: str) -> float:
            answer = text if self.whole else stated_answer(text)
            return 0.0 if answer is None else function(problem.question, problem.answer, answer, **settings)

        return score

    def _function(self) -> Callable[..., float]:
        module, dot, name = self.function.rpartition(".")
        if not dot:
            raise ImportError("it has no module")
        function: Callable[..., float] = getattr(importlib.import_module(module), name)
        return function
