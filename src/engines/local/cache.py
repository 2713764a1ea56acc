"""Keys and values of the rows that are written together: a column a token, the columns used in turn, as in a ring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]
"""Of one layer: ``[rows, heads, columns, head size]`` each in a cache, ``[tokens, heads, head size]`` of prompts."""


@dataclass(frozen=True)
class Prefix:
    """The first ``count`` tokens of a prompt, as the first of those whose keys and values are in ``layers``."""

    count: int
    layers: Sequence[KeysValues]


class Cache:
    """Room for ``capacity`` rows of ``width`` columns. Every row writes its next token into the same column.

    ``layers`` holds keys and values as ``[capacity, heads, width, head size]``; ``transposed`` keeps the keys' memory
    with columns innermost, which is what a product with few queries reads fastest.
    """

    def __init__(self, transposed: bool = False) -> None:
        self.transposed = transposed
        self.capacity = self.width = 0
        self.layers: list[KeysValues] = []

    def _room(self, like: Tensor, transposed: bool) -> Tensor:
        # Zeros, since a column that is masked but not a number would still spoil the sum over columns.
        heads, size = like.shape[1], like.shape[-1]
        if transposed:
            return like.new_zeros(self.capacity, heads, size, self.width).transpose(2, 3)
        return like.new_zeros(self.capacity, heads, self.width, size)

    def resize(self, capacity: int, width: int, rows: Tensor, source: Tensor, target: Tensor) -> None:
        """Make room anew; ``rows`` move to the front, and their columns ``source`` to ``target``."""
        self.capacity, self.width = capacity, width
        for place, layer in enumerate(self.layers):
            moved = []
            for old, transposed in zip(layer, (self.transposed, False), strict=True):
                new = self._room(old, transposed)
                new[: len(rows), :, target] = old[rows][:, :, source]
                moved.append(new)
            self.layers[place] = (moved[0], moved[1])

    def move(self, source: Tensor, target: Tensor) -> None:
        """Copy rows ``source`` over rows ``target``."""
        for layer in self.layers:
            for tensor in layer:
                tensor[target] = tensor[source]

    def store(self, prompts: Sequence[KeysValues], tokens: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Copy ``tokens`` of the prompts to the cache's ``rows`` and ``columns``, all ``[n]``."""
        if not self.layers:
            self.layers = [(self._room(keys, self.transposed), self._room(values, False)) for keys, values in prompts]
        for layer, prompt in zip(self.layers, prompts, strict=True):
            for tensor, new in zip(layer, prompt, strict=True):
                tensor[rows, :, columns] = new[tokens]


class Decoder(Protocol):
    """What the engine needs of a model: logits after prompts, and after one more token of every row."""

    transposed: bool
    continues: bool  # whether it goes on from prefixes; otherwise it is given none
    dtype: torch.dtype

    def prefill(
        self, ids: Tensor, lengths: Sequence[int], prefixes: Sequence[Prefix | None]
    ) -> tuple[Tensor, list[KeysValues]]:
        """Logits ``[prompts, vocabulary]`` after prompts of ascending ``lengths``, one after another in ``ids``, and
        keys and values of all their tokens; where there is a prefix, only what comes after it is read."""
        ...

    def step(self, tokens: Tensor, positions: Tensor, cache: Cache, column: int, mask: Tensor) -> Tensor:
        """Logits ``[rows, vocabulary]`` after ``tokens``, whose keys and values go into ``column``.

        ``mask`` ``[rows, columns]`` is added to attention's scores: 0 where a row may look, else minus infinity.
        """
        ...


Draw = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Tokens, log-probs and those at temperature 1 from logits, temperatures, top-p and uniform numbers, as
``sampling.draw``."""
