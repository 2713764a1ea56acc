"""The records that every room shares: problems, the tree of turns, scores, and the rows that the loss sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

Path = tuple[int, ...]
"""A turn's place in its tree: ``(3, 1)`` is the second continuation of the fourth first-round response."""

Message = Mapping[str, str]
"""One chat message: ``{"role": ..., "content": ...}``."""


class Status(StrEnum):
    """What became of a turn."""

    OPEN = "open"  # waiting to be written
    DONE = "done"  # ended by itself: end of sequence, or a stop sequence
    TRUNCATED = "truncated"  # ran out of its token budget
    PRUNED = "pruned"  # dropped by a search
    FAILED = "failed"  # could not be written


class Writer(StrEnum):
    """Which weights write a turn."""

    POLICY = "policy"
    BASE = "base"  # the frozen weights that the run started from


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold answer. ``metadata`` is what the benchmark's own verifier needs."""

    id: str
    question: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a turn's tokens are drawn. ``temperature`` 0 is greedy; ``top_p`` 1 is the full distribution."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_at_answer: bool = False  # the protocol's closing tag ends a turn, as the end of sequence does


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of thought: a fresh context, and what was written in it.

    ``prompt`` and ``completion`` are token ids; ``logprobs`` has one entry per completion token, under the
    distribution at ``sampling.temperature`` before any top-p, and ``model_logprobs`` the same at temperature 1. The
    end-of-sequence token, when written, is part of the completion. ``stream`` keys the turn's random numbers, so that
    they depend on the turn alone and not on the batch it ran in.
    """

    path: Path
    prompt: tuple[int, ...]
    sampling: Sampling
    writer: Writer = Writer.POLICY
    final: bool = False  # the last round that the strategy allows
    probe: bool = False  # sampled only to estimate what the turn before is worth; nothing learns from it
    carried: str = ""  # the progress that the prompt quotes
    carried_cut: bool = False  # it was too long and lost one end
    opening: str = ""  # what the same message said in earlier rounds, where a carry rule continues it token by token
    tree: int = 0  # index of the rollout in its batch
    stream: int = 0
    status: Status = Status.OPEN
    completion: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    model_logprobs: tuple[float, ...] = ()
    text: str = ""

    @property
    def round(self) -> int:
        """1-based number of the round."""
        return len(self.path)

    @property
    def parent(self) -> Path:
        """The path of the turn before; ``()`` is the problem itself."""
        return self.path[:-1]

    @property
    def said(self) -> str:
        """All that is scored: the text, after what the same message said before."""
        return self.opening + self.text

    @property
    def written(self) -> bool:
        """Whether the turn was written, kept or not."""
        return self.live or self.status == Status.PRUNED

    @property
    def live(self) -> bool:
        """Whether the turn was written and kept, so that it can be scored and learned from."""
        return self.status in (Status.DONE, Status.TRUNCATED)


@dataclass(frozen=True)
class Rollout:
    """The tree that grew from one problem; ``turns`` is ordered by round, then by path."""

    problem: Problem
    turns: tuple[Turn, ...]

    def children(self, path: Path) -> list[Turn]:
        """The turns that continue the one at ``path``, without probes; ``()`` gives the first round."""
        return [turn for turn in self.turns if turn.parent == path and not turn.probe]

    def level(self, round: int) -> list[Turn]:
        """All turns of a round (1-based), without probes."""
        return [turn for turn in self.turns if turn.round == round and not turn.probe]

    def leaves(self) -> list[Turn]:
        """The live turns that no live turn continues, without probes: where a final answer is stated."""
        own = [turn for turn in self.turns if turn.live and not turn.probe]
        parents = {turn.parent for turn in own}
        return [turn for turn in own if turn.path not in parents]

    @property
    def tokens(self) -> int:
        """Completion tokens over the whole tree."""
        return sum(len(turn.completion) for turn in self.turns)


Table = Mapping[Path, float]
"""A number for each turn of a tree."""


@dataclass(frozen=True)
class Scores:
    """What the turns of one tree are worth.

    ``terms`` holds each reward term's value per turn, unweighted; ``values`` their weighted sum, which turns are
    compared by; ``own`` the part of it that a turn earns by itself, whatever comes after; ``correct`` the plain
    correctness of the answers (mean over the leaves below a turn), whatever the reward is; ``prior`` what the problem
    was worth before the first round. Where terms are normalised before they are summed, ``plain`` is the sum without.
    """

    terms: Mapping[str, Table]
    values: Table
    correct: Table
    own: Table = field(default_factory=dict)
    prior: float = 0.0
    plain: Table | None = None

    @property
    def rewards(self) -> Table:
        """The weighted sum of terms, to look at."""
        return self.values if self.plain is None else self.plain

    def valued(self, rollout: Rollout) -> list[Turn]:
        """The turns that can be credited: those with a value, without probes."""
        return [turn for turn in rollout.turns if not turn.probe and turn.path in self.values]

    def ahead(self, path: Path) -> float:
        """What is to be expected after the turn at ``path``, without what it earned by itself; ``()``: ``prior``."""
        return self.values[path] - self.own.get(path, 0.0) if path else self.prior


@dataclass(frozen=True, slots=True)
class Row:
    """What the loss sees of a turn.

    ``advantage`` multiplies the log-probs of all its completion tokens; ``weight`` is its share in the loss (rows of
    one tree level share a weight of one); ``tree`` and ``path`` name the turn that it came from.
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

    @classmethod
    def of(cls, turn: Turn, advantage: float, weight: float) -> Row:
        """The row of a turn that learns."""
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
        )

    @property
    def group(self) -> tuple[int, Path]:
        """The siblings that the turn was compared with."""
        return self.tree, self.path[:-1]

    @property
    def trajectory(self) -> tuple[int, Path]:
        """The first-level branch that the turn belongs to: one line of thought from the problem on."""
        return self.tree, self.path[:1]


class Codec(Protocol):
    """Text to token ids and back, through the model's own tokenizer and chat template."""

    def chat(self, messages: Sequence[Message]) -> tuple[int, ...]: ...

    def encode(self, text: str) -> tuple[int, ...]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


Scorer = Callable[[Problem, str], float]
"""A verdict, 0 to 1, on what was said where thinking ended; never raises on model text."""

Children = Callable[[Turn], Sequence[Turn]]
"""What continues a finished turn; the engine asks it as soon as the turn is done."""


OnToken = Callable[[Turn, int], None]
"""Called with the open turn and each token as it is written (for people who watch)."""


class Engine(Protocol):
    """Writes turns, and asks for the children of each as soon as it is finished."""

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        """Write ``turns``, then whatever ``children`` returns for them, until nothing waits. Order is not promised."""
        ...


class InputError(ValueError):
    """A problem with what the user gave: settings, data or a directory. The message says what would be valid."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
