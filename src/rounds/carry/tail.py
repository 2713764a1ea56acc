"""Carry the last tokens, with the first ones pinned (Delethink, "The Markovian Thinker", arXiv 2510.06557)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.types import Turn


@dataclass(frozen=True)
class Tail:
    """The head of the first round, then the tail of all that was written: a message that forgets its middle.

    ``head`` is the share of the carried tokens that is pinned; the paper keeps 100 of 4,096.
    """

    head: float = 100 / 4096

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        inside = 0 <= self.head < 1
        return [] if inside else [f"rounds.carry.head={self.head} must be in [0, 1): what is left of it is the tail"]

    def resume(self, lineage: Sequence[Turn], budget: int) -> tuple[int, ...]:
        return pinned([token for turn in lineage for token in turn.completion], budget, self.head)


def pinned(tokens: Sequence[int], budget: int, head: float) -> tuple[int, ...]:
    """``tokens`` cut to ``budget`` of them: the first ``head * budget`` (rounded), and the last ones."""
    if len(tokens) <= budget:
        return tuple(tokens)
    first = min(round(head * budget), budget - 1)
    return (*tokens[:first], *tokens[len(tokens) - budget + first :])
