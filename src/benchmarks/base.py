"""The contract of a benchmark: problems in splits, and the judge of their answers."""

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
    """Training, validation and test problems; no question is in two of them."""

    train: Sequence[Problem]
    validation: Sequence[Problem]
    tests: Mapping[str, Sequence[Problem]]

    @property
    def every(self) -> list[Problem]:
        """All problems of all splits."""
        return [*self.train, *self.validation, *(problem for test in self.tests.values() for problem in test)]


class Benchmark(Section, ABC):
    """Problems with the judge of their answers."""

    name: str
    tests: Mapping[str, Any]  # test splits by name
    train_size: int | None = Field(None, ge=1)  # problems; null takes all
    validation_size: int = Field(128, ge=0)
    test_size: int | None = Field(None, ge=1)
    seed: int = 0  # of the problems, not of the run
    verify_seconds: float = Field(5.0, gt=0)  # processor time that one verdict may take
    perturb: Sequence[str] = ()  # every test split once more for each of these; see src/benchmarks/perturbations.py

    @property
    def trains(self) -> bool:
        """Whether there are problems to train on."""
        return True

    @property
    def judging(self) -> dict[str, Any]:
        """The settings that decide its own verdicts, as plain data."""
        return {"verify_seconds": self.verify_seconds}

    @abstractmethod
    def load(self) -> Splits:
        """The problems; the same settings give the same ones."""

    @abstractmethod
    def origin(self, split: str) -> str:
        """The exact source of a split, for results to cite: a file's hash, a repository's commit, a version."""

    @abstractmethod
    def score(self, problem: Problem, text: str) -> float:
        """1 if ``text`` states a right answer, else 0. Never raises, hangs or runs code, whatever the text."""
