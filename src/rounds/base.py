"""The contracts of a rounds strategy, a carry rule and a search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal

from src.rounds.prompts import Prompts
from src.settings import Section
from src.types import Codec, Path, Problem, Turn


class Carry(Section, ABC):
    """What the next prompt quotes of earlier rounds, as text."""

    @abstractmethod
    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str | None:
        """The progress to quote, from the finished turns that lead here (oldest first, at least one).

        ``None`` asks the question afresh.
        """


class TokenCarry(Section, ABC):
    """What the next round continues, as tokens: all rounds write one message, which ends where the model ends it."""

    @abstractmethod
    def resume(self, lineage: Sequence[Turn], budget: int) -> tuple[int, ...]:
        """At most ``budget`` of the tokens that the finished turns wrote; they open the round's own message."""


class Search(Section, ABC):
    """Which candidates of a level go on: tree of thoughts (arXiv 2305.10601) over rounds."""

    probes: ClassVar[bool]  # whether candidates are judged by probes
    candidates: int = 4  # children of the question, and of every turn that is kept
    keep: int = 1  # turns of a level that go on

    def check(self) -> Iterable[str]:
        if self.candidates < 2:
            yield f"rounds.search.candidates={self.candidates} leaves nothing to choose from; use 2 or more"
        if not 1 <= self.keep <= self.candidates:
            yield f"rounds.search.keep={self.keep} must be from 1 to rounds.search.candidates={self.candidates}"

    @abstractmethod
    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        """Indices of ``pool``, best first; ``probed`` holds the last turns of each candidate's probes.

        No gold answer is used.
        """


class Strategy(Section, ABC):
    """How the rollout of a problem grows, one turn at a time."""

    n: int  # rounds at most
    prompts: Prompts
    search: Search | None = None
    probes: int = 0  # chains from each state that only estimate its value
    temperature: float = 1.0  # of the first round
    later_temperature: float = 1.0
    later_top_p: float = 1.0
    continuation: Literal["policy", "base"] = "policy"  # who writes later rounds in training

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Children of each turn at each depth."""

    @property
    @abstractmethod
    def ends_early(self) -> bool:
        """Whether a rollout may end before the last round."""

    @abstractmethod
    def open(self, problem: Problem, codec: Codec) -> list[Turn]:
        """The first-round turns of a problem."""

    @abstractmethod
    def extend(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> list[Turn]:
        """The turns that continue ``lineage[-1]``; none where the rollout ends."""

    @abstractmethod
    def settle(self, problem: Problem, turns: Sequence[Turn], codec: Codec) -> tuple[list[Turn], list[Turn]]:
        """Called when no turn of a rollout is being written: the turns to prune, and further turns to write."""

    @abstractmethod
    def independent(self, n: int, samples: int, temperature: float, top_p: float) -> Strategy:
        """The same strategy for evaluation: ``samples`` separate chains of ``n`` rounds, all written by the policy."""

    @property
    @abstractmethod
    def samples(self) -> int:
        """Independent answers of a problem at evaluation."""

    @abstractmethod
    def check_problem(self, problem: Problem, codec: Codec) -> None:
        """Refuse a problem that leaves no room to write.

        Raises:
            InputError: names the problem, its length and the settings that bound it.
        """
