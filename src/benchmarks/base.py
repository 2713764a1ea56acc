"""What a benchmark is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from src.types import Problem


@dataclass(frozen=True)
class Splits:
    """Problems to train on, to choose by, and to report on; no question stands in two of them."""

    train: Sequence[Problem]
    validation: Sequence[Problem]
    tests: Mapping[str, Sequence[Problem]]


class Benchmark(Protocol):
    """Problems with the scorer of their answers."""

    name: str

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        ...

    def load(self) -> Splits:
        """The problems; the same settings give the same ones."""
        ...

    def origin(self, split: str) -> str:
        """What exactly a split is drawn from, for results to cite: a file's hash, a repository's commit, a version."""
        ...

    def score(self, problem: Problem, text: str) -> float:
        """1 where ``text`` states a right answer, else 0; never raises on, runs or hangs on it."""
        ...
