"""Abstract base class of a benchmark: problems in splits, and the scoring of answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from src.settings import Section
from src.types import Problem


@dataclass(frozen=True)
class Splits:
    """Training, validation and test problems. No question is in two of them, except in perturbed copies."""

    train: Sequence[Problem]
    validation: Sequence[Problem]
    tests: Mapping[str, Sequence[Problem]]

    @property
    def every(self) -> list[Problem]:
        """All problems of all splits."""
        return [*self.train, *self.validation, *(problem for test in self.tests.values() for problem in test)]


class Benchmark(Section, ABC):
    """A source of problems, with the verifier of their answers."""

    name: str
    tests: Mapping[str, Any]  # test splits by name
    train_size: int | None = Field(None, ge=1)  # number of problems; null: all
    validation_size: int = Field(128, ge=0)
    test_size: int | None = Field(None, ge=1)
    seed: int = 0  # seed of the problems, independent of the run's seed
    verify_seconds: float = Field(2.0, gt=0)  # maximum CPU time for one answer
    perturb: Sequence[str] = ()  # perturbations; each adds a copy of every test split (benchmarks/perturbations.py)

    @property
    def trains(self) -> bool:
        """Whether the benchmark has training problems."""
        return True

    @property
    def judging(self) -> dict[str, Any]:
        """The settings that its own verdicts depend on, as plain data."""
        return {"verify_seconds": self.verify_seconds}

    @abstractmethod
    def load(self) -> Splits:
        """Load the problems. The same settings give the same problems."""

    @abstractmethod
    def origin(self, split: str) -> str:
        """The exact source of a split, recorded with results: the hash of a file, a commit, or a package version."""

    @abstractmethod
    def score(self, problem: Problem, text: str) -> float:
        """1 if ``text`` states a correct answer, else 0; NaN if no verdict is reached within the limits. Never hangs or
        executes code, for any text."""
