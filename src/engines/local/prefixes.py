"""Beginnings of prompts that are not read twice: every round of a problem opens with the same question."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Sequence
from itertools import takewhile

from src.engines.local.cache import KeysValues, Prefix

SHORTEST = 64
"""Tokens; what is shorter is read again, which costs little."""

Prompt = tuple[int, ...]


class Prefixes:
    """Keys and values of prompts of at most ``room`` tokens together; those used longest ago make way."""

    def __init__(self, room: int) -> None:
        self.room, self.tokens = room, 0
        self.held: dict[Prompt, list[KeysValues]] = {}  # from the one used longest ago
        self.ordered: list[Prompt] = []  # the same, sorted: of all, neighbours share most

    def of(self, prompt: Prompt) -> Prefix | None:
        """The longest beginning that is held; its last token has to be read anyhow, for the logits after it."""
        place = bisect(self.ordered, prompt)
        shared = {held: _shared(held, prompt) for held in self.ordered[max(0, place - 1) : place + 1]}
        held = max(shared, key=shared.__getitem__, default=())
        count = min(shared.get(held, 0), len(prompt) - 1)
        if count < SHORTEST:
            return None
        self.held[held] = self.held.pop(held)
        return Prefix(count, self.held[held])

    def keep(self, prompt: Prompt, layers: Sequence[KeysValues], first: int) -> None:
        """Hold a prompt, whose tokens are in ``layers`` from ``first`` on."""
        if prompt in self.held or not SHORTEST <= len(prompt) <= self.room:
            return
        while self.tokens + len(prompt) > self.room:
            oldest = next(iter(self.held))
            del self.held[oldest], self.ordered[bisect(self.ordered, oldest) - 1]
            self.tokens -= len(oldest)
        own = slice(first, first + len(prompt))
        self.held[prompt] = [(keys[own].clone(), values[own].clone()) for keys, values in layers]
        insort(self.ordered, prompt)
        self.tokens += len(prompt)


def _shared(one: Prompt, other: Prompt) -> int:
    """Tokens that two prompts begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
