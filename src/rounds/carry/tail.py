"""Carry the last tokens, with the first ones pinned (Delethink, "The Markovian Thinker", arXiv 2510.06557)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from src.rounds.base import TokenCarry
from src.types import Turn


class Tail(TokenCarry):
    """The head of the first round, then the tail of everything written: a message whose middle is dropped.

    ``head`` is the share of the carried tokens that is pinned; the paper keeps 100 of 4,096.
    """

    head: float = Field(100 / 4096, ge=0, lt=1)

    def resume(self, lineage: Sequence[Turn], budget: int) -> tuple[int, ...]:
        return pinned([token for turn in lineage for token in turn.completion], budget, self.head)


def pinned(tokens: Sequence[int], budget: int, head: float) -> tuple[int, ...]:
    """``tokens`` cut to ``budget`` of them: the first ``head * budget`` (rounded), and the last ones."""
    if len(tokens) <= budget:
        return tuple(tokens)
    first = min(round(head * budget), budget - 1)
    return (*tokens[:first], *tokens[len(tokens) - budget + first :])
