"""Abstract base classes of the rounds strategy, the carry rule and the search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import mul
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from src.rounds.counting import Count, counted
from src.rounds.prompts import Prompts
from src.rounds.tool.base import Tool
from src.settings import RunSettings, Section
from src.types import Codec, Path, Problem, Turn

MOST_ROUNDS = 10_000
"""Largest number of rounds: widths are listed by round."""


class Carry(Section, ABC):
    """A carry rule: selects the text of earlier rounds that the next prompt quotes."""

    @abstractmethod
    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str | None:
        """The progress to quote, from the finished turns of this branch (oldest first, at least one).

        ``None`` starts the next round with the first-round prompt, without any progress.
        """


class TokenCarry(Section, ABC):
    """A carry rule on tokens: all rounds continue one assistant message, until the model ends it."""

    @abstractmethod
    def resume(self, lineage: Sequence[Turn], budget: int) -> tuple[int, ...]:
        """At most ``budget`` tokens of the finished turns' completions; the next round's message starts with them."""


class Search(Section, ABC):
    """Beam search over rounds: keeps the best candidates of each round (tree of thoughts, arXiv 2305.10601)."""

    probes: ClassVar[bool]  # whether ranking needs probes
    prunes: ClassVar[bool] = True  # whether each round drops candidates; otherwise each of them is continued once
    candidates: int = 4  # children of the question, and of every kept turn
    keep: int = 1  # beam width: turns of a round that are continued

    def check(self) -> Iterable[str]:
        if self.candidates < 2:
            yield f"rounds.search.candidates={self.candidates} leaves nothing to choose from; use 2 or more"
        if not 1 <= self.keep <= self.candidates:
            yield f"rounds.search.keep={self.keep} must be from 1 to rounds.search.candidates={self.candidates}"

    @abstractmethod
    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        """Indices of ``pool``, best first. ``probed`` maps each candidate's path to the last turns of its probes.

        The ranking never uses the gold answer.
        """


class Strategy(Section, ABC):
    """A rounds strategy: proposes the turns of a problem's rollout.

    ``open`` gives the first round and ``extend`` the turns that continue a finished one. ``settle`` joins turns at the
    barrier, once none is open. ``independent`` says how it is evaluated.
    """

    n: int  # maximum number of rounds
    prompts: Prompts
    search: Search | None = None
    tool: Tool | None = None
    probes: int = 0  # chains sampled from each state only to estimate its value
    temperature: float = Field(1.0, ge=0)  # of the first round
    top_p: float = Field(1.0, gt=0, le=1)
    later_temperature: float = Field(1.0, ge=0)
    later_top_p: float = Field(1.0, gt=0, le=1)
    continuation: Literal["policy", "base"] = "policy"  # weights that sample later rounds in training

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.reward is None:
            return
        if self.top_p < 1:
            yield (
                f"rounds.top_p={self.top_p} truncates the sampling distribution of trained turns, so their log-probs "
                "would be wrong; use rounds.top_p=1"
            )
        if self.temperature == 0:
            yield "rounds.temperature=0 makes all responses of a group equal, so all advantages are 0; use e.g. 1.0"

    def described(self) -> dict[str, Any]:
        described = super().described()
        return described if self.tool else {key: value for key, value in described.items() if key != "tool"}

    @property
    def joins(self) -> bool:
        """Whether one answer takes a whole rollout, not one branch of it. At evaluation, each sample is a rollout."""
        return self.search is not None

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Children of each turn at each depth."""

    @property
    def turns(self) -> tuple[Count, ...]:
        """Turns of each round of a problem's rollout in which no branch ends early: a tree with ``widths`` and
        ``probes``. A strategy of another shape overrides this."""
        levels = list(accumulate(self.widths, mul))
        return counted(levels, [self.probes * parents for parents in [1, *levels][: len(levels)]])

    @property
    def shares(self) -> Sequence[tuple[float, Strategy]]:
        """The strategies that grow the problems of a training step, each with its share of them."""
        return [(1.0, self)]

    @property
    @abstractmethod
    def ends_early(self) -> bool:
        """Whether a rollout can end before round ``n``."""

    @abstractmethod
    def open(self, problem: Problem, codec: Codec) -> list[Turn]:
        """The first-round turns of a problem."""

    @abstractmethod
    def extend(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> list[Turn]:
        """The turns that continue ``lineage[-1]``; empty if the branch ends there."""

    @abstractmethod
    def settle(self, problem: Problem, turns: Sequence[Turn], codec: Codec) -> tuple[list[Turn], list[Turn]]:
        """The turns to prune and the new turns to generate, once no turn of the rollout is being generated."""

    @abstractmethod
    def independent(self, n: int, samples: int, temperature: float, top_p: float) -> Strategy:
        """The strategy for evaluation: ``samples`` independent answers after ``n`` rounds, all from the policy."""

    def drafts(self, n: int) -> int:
        """First-round drafts of each sample in an evaluation with ``n`` rounds; 0 if no prompt quotes several."""
        return 0

    @property
    def drafts_vote(self) -> bool:
        """Whether drafts are asked for an answer, as in a single round, so that they can vote."""
        return False

    @property
    def turn_tokens(self) -> int:
        """Tokens of a one-token prompt and the longest completion that a turn may write."""
        return 1

    @property
    @abstractmethod
    def samples(self) -> int:
        """Independent samples per problem at evaluation."""

    @abstractmethod
    def check_problem(self, problem: Problem, codec: Codec) -> None:
        """Check that every prompt of a problem leaves room for a completion.

        Raises:
            InputError: a prompt fills the context. The message names the problem, its length and the settings.
        """


class Quoting(Strategy):
    """A strategy whose later prompts quote what earlier turns wrote, with a budget of tokens for each part.

    ``responses`` turns are sampled in the first round, and ``trajectories`` from each prompt of the second. A turn
    writes at most ``first_tokens`` (round 1) or ``later_tokens``, and at most as many as the ``context`` leaves after
    the prompt. A progress of more than ``progress_tokens`` is truncated: its ``keep`` end stays.
    """

    carry: Carry | TokenCarry
    context: int = Field(ge=2)
    first_tokens: int = Field(ge=1)
    later_tokens: int = Field(ge=1)
    progress_tokens: int = Field(ge=1)
    responses: int = Field(8, ge=1)
    trajectories: int = Field(4, ge=1)
    keep: Literal["head", "tail"] = "tail"
    stop_at_answer: bool = False

    @property
    def turn_tokens(self) -> int:
        return min(self.context, 1 + (self.first_tokens if self.n == 1 else max(self.first_tokens, self.later_tokens)))

    def sampled(self, n: int, temperature: float, top_p: float, **shape: Any) -> Self:
        """The strategy with ``n`` rounds, all sampled from the policy in the same way."""
        everywhere = {"temperature": temperature, "later_temperature": temperature, "top_p": top_p}
        return self.replace(n=n, continuation="policy", **everywhere, later_top_p=top_p, **shape)
