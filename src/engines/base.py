"""What an engine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from src.types import Children, Codec, Turn, Writer

OnToken = Callable[[Turn, int], None]
"""Called with the open turn and each token as it is written (for people who watch)."""


def padded_batches(sizes: Sequence[tuple[int, int]], budget: int) -> list[list[int]]:
    """Indices of (prompt, completion) lengths, in order, in batches whose padded size stays under ``budget`` tokens.

    A batch is rows x (longest prompt + longest completion); a row that is over the budget alone is a batch of its own.
    """
    batches: list[list[int]] = [[]]
    prompt = completion = 0
    for index, (asked, written) in enumerate(sizes):
        prompt, completion = max(prompt, asked), max(completion, written)
        if batches[-1] and (len(batches[-1]) + 1) * (prompt + completion) > budget:
            batches.append([])
            prompt, completion = asked, written
        batches[-1].append(index)
    return batches


class Weights(Protocol):
    """The model behind an engine: one set of base weights, written as by the policy or by the base."""

    codec: Codec
    device: Any
    end_tokens: frozenset[int]
    pad_token: int

    def writing(self, writer: Writer) -> AbstractContextManager[Any]:
        """The causal LM, ready to write as ``writer`` until the context closes."""
        ...


class Engine(Protocol):
    """Writes turns, and asks for the children of each as soon as it is finished."""

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        """Write ``turns``, then whatever ``children`` returns for them, until nothing waits. Order is not promised."""
        ...
