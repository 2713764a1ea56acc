"""Keys and values: of rows that are being generated, of prompts that are being read, of prefixes that are reused."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from src.engines.local.native import Kernels

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


BLOCK, SCORES = 256, 2**20
"""Queries, and attention's scores, that are computed at once in half precision on a CPU: what its cache holds."""


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (arXiv 2104.09864), halves of a head against each other; ``sin`` carries their sign."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class PromptAttention:
    """Attention of one layer after the other, for prompts one after another; ``new`` are the tokens to be read.

    ``angles`` are cosines and signed sines ``[positions, head size]``. With ``kernels`` compiled code does the work.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        prefixes: Sequence[Prefix | None],
        angles: tuple[Tensor, Tensor],
        groups: int,
        kernels: Kernels | None,
    ) -> None:
        device = angles[0].device
        self.groups, self.kernels = groups, kernels
        self.prefixes = [prefix for prefix in prefixes if prefix is not None]
        known = [0 if prefix is None else prefix.count for prefix in prefixes]
        self.lengths, self.known = torch.tensor(lengths), torch.tensor(known)
        self.tokens = sum(lengths)
        places = torch.cat([torch.arange(length) for length in lengths])
        read = places >= self.known.repeat_interleave(self.lengths)
        self.new, self.old = (found.nonzero()[:, 0].to(device) for found in (read, ~read))
        self.ends = (self.lengths - self.known).cumsum(0).to(device) - 1
        if kernels is not None:
            self.angles = angles[0].float(), angles[1].float()
            return
        self.cos, self.sin = (table[places[read].to(device)][:, None] for table in angles)
        # Of prompts of one length, with as much of it known: how many, and both.
        self.shapes = [(len(list(run)), *shape) for shape, run in groupby(zip(lengths, known, strict=True))]
        self.ahead: dict[tuple[int, int], Tensor] = {}

    def __call__(self, qkv: Tensor, layer: int) -> tuple[Tensor, KeysValues]:
        """``[new tokens, heads + 2 groups, size]`` to what attention makes of them, ``[new tokens, all heads]``, and
        keys (turned by their positions) and values of all tokens."""
        keys, values = (qkv.new_empty(self.tokens, self.groups, qkv.shape[-1]) for _ in range(2))
        if self.prefixes:
            for index, tensor in enumerate((keys, values)):
                tensor[self.old] = torch.cat([prefix.layers[layer][index][: prefix.count] for prefix in self.prefixes])
        if self.kernels is not None:
            found = qkv.new_empty(len(qkv), qkv.shape[1] - 2 * self.groups, qkv.shape[-1])
            self.kernels.read(qkv, self.angles, self.lengths, self.known, keys, values, found)
            return found.flatten(1), (keys, values)
        both = turned(qkv[:, : -self.groups], self.cos, self.sin)
        queries = both[:, : -self.groups]
        keys[self.new], values[self.new] = both[:, -self.groups :], qkv[:, -self.groups :]
        asked = torch.split(queries, [count * (length - known) for count, length, known in self.shapes])
        seen = (torch.split(tensor, [count * length for count, length, _ in self.shapes]) for tensor in (keys, values))
        mixed = [
            self._attended(q.unflatten(0, (count, -1)), k.unflatten(0, (count, -1)), v.unflatten(0, (count, -1)))
            for q, k, v, (count, _, _) in zip(asked, *seen, self.shapes, strict=True)
        ]
        return torch.cat(mixed), (keys, values)

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """For prompts of one length, ``[rows, tokens, heads, size]``, whose last tokens ask: ``[all that ask, …]``."""
        rows, asking, heads, size = queries.shape
        tokens = keys.shape[1]
        known = tokens - asking
        if not (queries.is_cpu and queries.dtype == torch.bfloat16):
            q, k, v = (part.transpose(1, 2) for part in (queries, keys, values))
            mask = self._ahead(known, tokens, queries, 1) if known else None
            found = scaled_dot_product_attention(q, k, v, mask, is_causal=not known, enable_gqa=heads != self.groups)
            return found.transpose(1, 2).reshape(rows * asking, -1)
        # Plain products in half precision are twice as fast as the fused kernel, while scores fit into the cache.
        grouped = (rows, self.groups, heads // self.groups)
        mixed = queries.new_empty(*grouped, asking, size)
        at_once = max(1, SCORES // (heads * min(BLOCK, asking) * tokens))
        for first in range(0, rows, at_once):
            some = slice(first, first + at_once)
            k, v = (part[some].transpose(1, 2).flatten(0, 1) for part in (keys, values))
            for start in range(0, asking, BLOCK):
                end = min(start + BLOCK, asking)
                q = queries[some, start:end].transpose(1, 2).reshape(len(k), -1, size)
                mask = self._ahead(known + start, known + end, queries, grouped[2])
                scores = torch.baddbmm(mask, q, k[:, : known + end].transpose(1, 2), alpha=size**-0.5)
                found = torch.bmm(scores.softmax(-1), v[:, : known + end])
                mixed[some, :, :, start:end] = found.view(-1, *grouped[1:], end - start, size)
        return mixed.flatten(1, 2).transpose(1, 2).reshape(rows * asking, -1)

    def _ahead(self, start: int, end: int, like: Tensor, heads: int) -> Tensor:
        """What hides from the tokens from ``start`` to ``end`` those ahead of them, for several heads one below the
        other; kept for the other layers."""
        if (start, end) not in self.ahead:
            hidden = like.new_full((end - start, end), -torch.inf).triu(start + 1)
            self.ahead[start, end] = hidden.repeat(heads, 1)
        return self.ahead[start, end]
