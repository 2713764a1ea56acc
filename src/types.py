"""Shared data types: problems, turns, rollouts (graphs of turns), scores, and training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from src.errors import InputError as InputError
from src.errors import NumberError as NumberError

Path = tuple[int, ...]
"""Position of a turn in its rollout: ``(3, 1)`` is the second continuation of the fourth first-round response."""

Message = Mapping[str, str]
"""One chat message: ``{"role": ..., "content": ...}``."""


class Status(StrEnum):
    """State of a turn's generation."""

    OPEN = "open"  # not generated yet
    DONE = "done"  # ended with the end-of-sequence token or a stop sequence
    TRUNCATED = "truncated"  # reached its token budget
    PRUNED = "pruned"  # discarded by a search
    FAILED = "failed"  # not generated because of an error


class Writer(StrEnum):
    """Who writes a turn, or a segment of it."""

    POLICY = "policy"
    BASE = "base"  # the frozen weights from before training
    ENVIRONMENT = "environment"  # a tool, which writes a segment of a turn


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold answer. ``metadata`` holds extra data for the benchmark's own verifier."""

    id: str
    question: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of a turn. ``temperature`` 0 is greedy; ``top_p`` 1 keeps the full distribution."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_at_answer: bool = False  # also stop at the closing answer tag
    stop: str = ""  # also stop at this text, e.g. the closing tag of a tool call


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of reasoning: a prompt in a fresh context and its completion.

    ``prompt`` and ``completion`` are token ids. ``logprobs`` has one entry per completion token, under the
    distribution at ``sampling.temperature`` before top-p; ``model_logprobs`` is the same at temperature 1. The
    completion includes the end-of-sequence token if it was sampled. ``stream`` seeds the turn's random numbers, so that
    they do not depend on its batch. ``sources`` are the turns that the prompt quotes, in order; by default the turn
    above ``path``. ``mask`` is false for tokens of the environment, with log-probs 0; if empty, ``writer`` wrote all.

    Raises:
        ValueError: a source repeats, or is not from an earlier round.
    """

    path: Path
    prompt: tuple[int, ...]
    sampling: Sampling
    writer: Writer = Writer.POLICY
    final: bool = False  # last round allowed by the strategy
    probe: bool = False  # sampled only to estimate the value of its parent; never trained on
    carried: str = ""  # progress quoted in the prompt
    carried_cut: bool = False  # whether the progress was truncated to fit its budget
    opening: str = ""  # earlier text of the message, if the carry rule continues one message over rounds
    tree: int = 0  # index of the rollout in its batch
    stream: int = 0
    status: Status = Status.OPEN
    completion: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    model_logprobs: tuple[float, ...] = ()
    text: str = ""
    sources: tuple[Path, ...] | None = None
    mask: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if self.sources is None:
            object.__setattr__(self, "sources", (self.family,) if self.family else ())
        sources = self.quoted
        if len(set(sources)) < len(sources) or not all(0 < len(source) < self.round for source in sources):
            raise ValueError(
                f"turn {self.path} cannot quote {list(sources)}: sources must be different turns of earlier rounds"
            )

    @property
    def quoted(self) -> tuple[Path, ...]:
        """Paths of the turns that the prompt quotes, in order; empty in the first round."""
        return self.sources or ()

    @property
    def round(self) -> int:
        """1-based number of the round."""
        return len(self.path)

    @property
    def family(self) -> Path:
        """Address of the prompt: turns of one prompt (siblings) differ only in the last number of their paths."""
        return self.path[:-1]

    @property
    def source(self) -> Path:
        """Path of the only turn that the prompt quotes; ``()`` is the problem itself.

        Raises:
            ValueError: the prompt quotes several turns.
        """
        if len(self.quoted) > 1:
            raise ValueError(
                f"turn {self.path} quotes {len(self.quoted)} turns, but this needs chains or trees of turns, where "
                "every prompt quotes one; use a credit rule that does not compare a turn with its source, e.g. "
                "credit=siblings"
            )
        return self.quoted[0] if self.quoted else ()

    @property
    def generated(self) -> int:
        """Number of completion tokens that ``writer`` wrote, not the environment."""
        return sum(self.mask) if self.mask else len(self.completion)

    @property
    def said(self) -> str:
        """The text that is scored: earlier rounds of the same message (``opening``), then this turn's text."""
        return self.opening + self.text

    @property
    def written(self) -> bool:
        """Whether the turn was generated, even if it was pruned afterwards."""
        return self.live or self.status == Status.PRUNED

    @property
    def live(self) -> bool:
        """Whether the turn was generated and not pruned, so that it can be scored and trained on."""
        return self.status in (Status.DONE, Status.TRUNCATED)


@dataclass(frozen=True)
class Rollout:
    """Graph of turns for one problem: each prompt quotes its sources. In chains and trees, it quotes one turn.

    ``turns`` is ordered by round, then by path.
    """

    problem: Problem
    turns: tuple[Turn, ...]

    def children(self, path: Path) -> list[Turn]:
        """Turns whose prompt quotes the turn at ``path``, without probes; ``()`` gives the turns that quote none."""
        return [turn for turn in self.turns if not turn.probe and path in (turn.quoted or ((),))]

    def siblings(self, turn: Turn) -> list[Turn]:
        """Turns of the prompt of ``turn``, without probes; ``turn`` is one of them unless it is a probe."""
        return [other for other in self.turns if other.family == turn.family and not other.probe]

    def level(self, round: int) -> list[Turn]:
        """All turns of a round (1-based), without probes."""
        return [turn for turn in self.turns if turn.round == round and not turn.probe]

    def leaves(self) -> list[Turn]:
        """Live turns that no live turn quotes, without probes. Final answers are read from them."""
        own = [turn for turn in self.turns if turn.live and not turn.probe]
        quoted = {source for turn in own for source in turn.quoted}
        return [turn for turn in own if turn.path not in quoted]

    @property
    def tokens(self) -> int:
        """Number of generated tokens in the whole graph."""
        return sum(turn.generated for turn in self.turns)


Table = Mapping[Path, float]
"""A number for each turn of a rollout."""


@dataclass(frozen=True)
class Scores:
    """Rewards and values of the turns of one rollout.

    Attributes:
        terms: unweighted value of each reward term, per turn.
        values: weighted sum of the terms; advantages are computed from it.
        correct: correctness of the answers (mean over the leaves below a turn), independent of the reward.
        own: part of the value that comes from the turn itself, not from its continuations.
        prior: value of the problem before the first round.
        plain: the weighted sum without normalisation, if terms are normalised before they are summed.
    """

    terms: Mapping[str, Table]
    values: Table
    correct: Table
    own: Table = field(default_factory=dict)
    prior: float = 0.0
    plain: Table | None = None

    @property
    def rewards(self) -> Table:
        """Weighted sum of the terms without normalisation, for metrics and reports."""
        return self.values if self.plain is None else self.plain

    def valued(self, rollout: Rollout) -> list[Turn]:
        """Turns that can be credited: those with a value, without probes."""
        return [turn for turn in rollout.turns if not turn.probe and turn.path in self.values]

    def ahead(self, path: Path) -> float:
        """Value that comes after the turn at ``path``: its value minus its own part. ``()`` gives ``prior``."""
        return self.values[path] - self.own.get(path, 0.0) if path else self.prior


@dataclass(frozen=True, slots=True)
class Row:
    """Training example made from one turn.

    ``advantage`` multiplies the log-probs of the completion tokens in ``mask`` (of all, if it is empty). ``weight`` is
    the relative weight in the loss. ``tree`` and ``path`` identify the turn.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    logprobs: tuple[float, ...]
    temperature: float
    advantage: float
    weight: float
    tree: int
    path: Path
    truncated: bool = False
    mask: tuple[bool, ...] = ()

    @classmethod
    def of(cls, turn: Turn, advantage: float, weight: float) -> Row:
        """Make the training row of a turn."""
        return cls(
            prompt=turn.prompt,
            completion=turn.completion,
            logprobs=turn.logprobs,
            temperature=turn.sampling.temperature,
            advantage=advantage,
            weight=weight,
            tree=turn.tree,
            path=turn.path,
            truncated=turn.status == Status.TRUNCATED,
            mask=turn.mask,
        )

    @property
    def trained(self) -> int:
        """Number of completion tokens with a loss."""
        return sum(self.mask) if self.mask else len(self.completion)

    @property
    def group(self) -> tuple[int, Path]:
        """Key of the sibling group that the turn was compared with."""
        return self.tree, self.path[:-1]

    @property
    def trajectory(self) -> tuple[int, Path]:
        """Key of the trajectory that the turn belongs to: everything below one first-round response."""
        return self.tree, self.path[:1]


class Codec(Protocol):
    """Tokenizer and chat template of a model: text to token ids and back."""

    def chat(self, messages: Sequence[Message]) -> tuple[int, ...]: ...

    def encode(self, text: str) -> tuple[int, ...]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


Scorer = Callable[[Problem, str], float]
"""Correctness, 0 to 1, of the text of a final turn; never raises on model text."""

Children = Callable[[Turn], Sequence[Turn]]
"""Returns the continuations of a finished turn; the engine calls it as soon as the turn is done."""

OnToken = Callable[[Turn, int], None]
"""Called with the open turn and each token as it is sampled, for live display."""


class Engine(Protocol):
    """Generates turns and their continuations."""

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        """Generate ``turns`` and, recursively, the turns that ``children`` returns for them, in any order."""
        ...
