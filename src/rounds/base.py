"""What a rounds strategy and a carry rule are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from src.types import Codec, Message, Path, Problem, Turn

_FIELD = re.compile(r"\{(question|progress|round|previous|rounds)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    r"""Replace ``{question}``, ``{progress}`` … in one pass, so that text with braces (``\boxed{}``) stays as it is."""
    return _FIELD.sub(lambda found: values.get(found[1], found[0]), template)


@dataclass(frozen=True)
class Prompts:
    """The texts of a round's prompt, for one family of models.

    ``first`` opens round 1, ``later`` every other round, ``final`` is appended in the last one. ``item`` renders one
    progress where several are carried. Fields: ``{question} {progress} {round} {previous} {rounds}``.
    """

    first: str
    later: str
    final: str = ""
    item: str = "{progress}"
    system: str = ""

    def messages(self, question: str, progress: str | None, round: int, rounds: int) -> list[Message]:
        """The chat that opens a round; ``progress`` is ``None`` in round 1."""
        values = {
            "question": question,
            "progress": progress or "",
            "round": str(round),
            "previous": str(round - 1),
            "rounds": str(rounds),
        }
        template = self.first if progress is None else self.later
        content = fill(template, values) + (fill(self.final, values) if round == rounds else "")
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]


class Carry(Protocol):
    """What a round is told of the rounds before it, in words."""

    def carry(self, lineage: Sequence[Turn], prompts: Prompts) -> str | None:
        """The progress to quote, from the finished turns on the way here (oldest first, at least one); ``None`` asks
        the question afresh."""
        ...


@runtime_checkable
class TokenCarry(Protocol):
    """What a round goes on from, token by token: all rounds write one message, which ends where the model ends it."""

    def resume(self, lineage: Sequence[Turn], budget: int) -> tuple[int, ...]:
        """At most ``budget`` of the tokens that the finished turns wrote; they open the round's own message."""
        ...


class Search(Protocol):
    """Which candidates of a level go on: tree of thoughts (arXiv 2305.10601) over rounds."""

    candidates: int  # children of the question, and of every kept turn
    keep: int  # turns that go on from a level
    probes: ClassVar[bool]  # whether candidates are judged by probes

    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        """Indices of ``pool``, best first; ``probed`` holds the last turns of each candidate's probes. No gold answer
        is looked at."""
        ...


class Strategy(Protocol):
    """How a tree grows, one turn at a time."""

    def open(self, problem: Problem, codec: Codec) -> list[Turn]:
        """The first-round turns of a problem."""
        ...

    def extend(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> list[Turn]:
        """The turns that continue ``lineage[-1]``; none where the tree ends."""
        ...

    def settle(self, problem: Problem, turns: Sequence[Turn], codec: Codec) -> tuple[list[Turn], list[Turn]]:
        """Called when nothing of a tree is being written: the turns to prune, and more turns to write."""
        ...
