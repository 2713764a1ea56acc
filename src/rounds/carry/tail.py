"""Carry the first and the last tokens of the message so far (Delethink, "The Markovian Thinker", arXiv 2510.06557)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from src.rounds.base import TokenCarry
from src.types import Turn


class Tail(TokenCarry):
    """Carries the head of the first round and the tail of all rounds; the tokens between them are dropped.

    ``head`` is the head's share of the carried tokens; the paper keeps 100 of 4,096.
    """

    head: float = Field(100 / 4096, ge=0, lt=1)

    def resume(self, lineage: Sequence[Turn], budget: int) -> tuple[int, ...]:
        return pinned([token for turn in lineage for token in turn.completion], budget, self.head)


def pinned(tokens: Sequence[int], budget: int, head: float) -> tuple[int, ...]:
    """``tokens`` truncated to ``budget``: the first ``head * budget`` (rounded) and then the last ones."""
    if len(tokens) <= budget:
        return tuple(tokens)
    first = min(round(head * budget), budget - 1)
    return (*tokens[:first], *tokens[len(tokens) - budget + first :])
