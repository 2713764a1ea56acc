"""Keys and values: the KV cache of the batch, the prefix cache, and attention inside prompts (prefill)."""

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
"""Keys and values of one layer: each ``[rows, heads, columns, head size]`` in a cache, or ``[tokens, heads, head
size]`` for concatenated prompts."""


@dataclass(frozen=True)
class Prefix:
    """A cached prompt prefix: its ``count`` tokens are the first ones in each of ``layers``."""

    count: int
    layers: Sequence[KeysValues]


class Cache:
    """KV cache of ``capacity`` rows and ``width`` columns. All rows write their next token into the same column.

    ``layers`` holds keys and values as ``[capacity, heads, width, head size]``. With ``transposed``, the columns of the
    keys are innermost in memory, which is the fastest layout for a product with few queries.
    """

    def __init__(self, transposed: bool = False) -> None:
        self.transposed = transposed
        self.capacity = self.width = 0
        self.layers: list[KeysValues] = []

    def _room(self, like: Tensor, transposed: bool) -> Tensor:
        # Zeros instead of uninitialised memory: a masked column has weight 0, but 0 x NaN would still be NaN.
        heads, size = like.shape[1], like.shape[-1]
        if transposed:
            return like.new_zeros(self.capacity, heads, size, self.width).transpose(2, 3)
        return like.new_zeros(self.capacity, heads, self.width, size)

    def resize(self, capacity: int, width: int, rows: Tensor, source: Tensor, target: Tensor) -> None:
        """Reallocate the cache. ``rows`` move to the front, and their columns ``source`` to columns ``target``."""
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
        """Copy keys and values of the prompts' ``tokens`` to ``rows`` and ``columns`` of the cache; all are ``[n]``."""
        if not self.layers:
            self.layers = [(self._room(keys, self.transposed), self._room(values, False)) for keys, values in prompts]
        for layer, prompt in zip(self.layers, prompts, strict=True):
            for tensor, new in zip(layer, prompt, strict=True):
                tensor[rows, :, columns] = new[tokens]


class Decoder(Protocol):
    """A model as the engine uses it: prefill of prompts, and one decoding step for all rows."""

    transposed: bool  # layout of the keys in the cache
    continues: bool  # whether prefill supports cached prefixes; if not, it is given none
    dtype: torch.dtype

    def prefill(
        self, ids: Tensor, lengths: Sequence[int], prefixes: Sequence[Prefix | None]
    ) -> tuple[Tensor, list[KeysValues]]:
        """Logits ``[prompts, vocabulary]`` after each prompt, and keys and values of all prompt tokens per layer.

        The prompts are concatenated in ``ids``, in ascending order of ``lengths``. With a prefix, only the tokens after
        it are computed.
        """
        ...

    def step(self, tokens: Tensor, positions: Tensor, cache: Cache, column: int, mask: Tensor) -> Tensor:
        """Logits ``[rows, vocabulary]`` after ``tokens`` ``[rows]``, whose keys and values are written to ``column``.

        ``mask`` ``[rows, columns]`` is added to the attention scores: 0 for visible columns, else minus infinity.
        """
        ...


Draw = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""A sampling function with the signature of ``sampling.draw``: (logits, temperature, top-p, uniform) to (tokens,
log-probs, log-probs at temperature 1)."""


SHORTEST = 64
"""Shortest prefix in tokens that is worth caching; shorter ones are computed again, which costs little."""

Prompt = tuple[int, ...]


class Prefixes:
    """Prefix cache: keys and values of prompts, at most ``room`` tokens in all, evicted least recently used first."""

    def __init__(self, room: int) -> None:
        self.room, self.tokens = room, 0
        self.held: dict[Prompt, list[KeysValues]] = {}  # least recently used first
        self.ordered: list[Prompt] = []  # the same prompts, sorted: the longest common prefix is with a neighbour

    def of(self, prompt: Prompt) -> Prefix | None:
        """The longest cached prefix of ``prompt``, or None if it is too short to be worth it.

        The prompt's last token is never part of it, because its logits have to be computed.
        """
        place = bisect(self.ordered, prompt)
        shared = {cached: _shared(cached, prompt) for cached in self.ordered[max(0, place - 1) : place + 1]}
        best = max(shared, key=shared.__getitem__, default=())
        count = min(shared.get(best, 0), len(prompt) - 1)
        if count < SHORTEST:
            return None
        self.held[best] = self.held.pop(best)  # now the most recently used
        return Prefix(count, self.held[best])

    def keep(self, prompt: Prompt, layers: Sequence[KeysValues], first: int) -> None:
        """Cache a prompt whose keys and values start at index ``first`` of ``layers``."""
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
    """Length of the common prefix of two prompts, in tokens."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


BLOCK, SCORES = 256, 2**20
"""Queries and attention scores per step of half-precision attention on a CPU, so that they fit into the CPU cache."""


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions (arXiv 2104.09864) to the two halves of each head; ``sin`` is negated in the first."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class PromptAttention:
    """Causal attention inside each of several concatenated prompts (prefill), called once per layer.

    ``new`` are the indices of the tokens after the cached ``prefixes``, which have to be computed. ``angles`` are
    rotary cosines and signed sines ``[positions, head size]``. With ``kernels``, compiled code computes the attention.
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
        positions = torch.cat([torch.arange(length) for length in lengths])
        is_new = positions >= self.known.repeat_interleave(self.lengths)
        self.new, self.old = (chosen.nonzero()[:, 0].to(device) for chosen in (is_new, ~is_new))
        self.ends = (self.lengths - self.known).cumsum(0).to(device) - 1
        if kernels is not None:
            self.angles = angles[0].float(), angles[1].float()
            return
        self.cos, self.sin = (table[positions[is_new].to(device)][:, None] for table in angles)
        # Runs of prompts with the same length and prefix: (number of prompts, length, length of the prefix).
        self.shapes = [(len(list(run)), *shape) for shape, run in groupby(zip(lengths, known, strict=True))]
        self.ahead: dict[tuple[int, int], Tensor] = {}

    def __call__(self, qkv: Tensor, layer: int) -> tuple[Tensor, KeysValues]:
        """Attention output ``[new tokens, heads x size]`` of ``qkv`` ``[new tokens, heads + 2 groups, size]``, and the
        keys (with rotary positions) and values of all prompt tokens."""
        keys, values = (qkv.new_empty(self.tokens, self.groups, qkv.shape[-1]) for _ in range(2))
        if self.prefixes:
            for index, tensor in enumerate((keys, values)):
                tensor[self.old] = torch.cat([prefix.layers[layer][index][: prefix.count] for prefix in self.prefixes])
        if self.kernels is not None:
            mixed_heads = qkv.new_empty(len(qkv), qkv.shape[1] - 2 * self.groups, qkv.shape[-1])
            self.kernels.read(qkv, self.angles, self.lengths, self.known, keys, values, mixed_heads)
            return mixed_heads.flatten(1), (keys, values)
        queries_keys = turned(qkv[:, : -self.groups], self.cos, self.sin)
        queries = queries_keys[:, : -self.groups]
        keys[self.new], values[self.new] = queries_keys[:, -self.groups :], qkv[:, -self.groups :]
        query_runs = torch.split(queries, [count * (length - known) for count, length, known in self.shapes])
        sizes = [count * length for count, length, _ in self.shapes]
        runs = (torch.split(tensor, sizes) for tensor in (keys, values))
        mixed = [
            self._attended(q.unflatten(0, (count, -1)), k.unflatten(0, (count, -1)), v.unflatten(0, (count, -1)))
            for q, k, v, (count, _, _) in zip(query_runs, *runs, self.shapes, strict=True)
        ]
        return torch.cat(mixed), (keys, values)

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Causal attention for prompts of the same length and prefix; gives ``[rows x new tokens, heads x size]``.

        ``queries`` ``[rows, new tokens, heads, size]`` are the last tokens of ``keys`` and ``values`` ``[rows, tokens,
        groups, size]``.
        """
        rows, new, heads, size = queries.shape
        tokens = keys.shape[1]
        known = tokens - new
        if not (queries.is_cpu and queries.dtype == torch.bfloat16):
            q, k, v = (part.transpose(1, 2) for part in (queries, keys, values))
            mask = self._ahead(known, tokens, queries, 1) if known else None
            fused = scaled_dot_product_attention(q, k, v, mask, is_causal=not known, enable_gqa=heads != self.groups)
            return fused.transpose(1, 2).reshape(rows * new, -1)
        # In half precision, plain products are twice as fast as the fused kernel while scores fit into the CPU cache.
        grouped = (rows, self.groups, heads // self.groups)
        mixed = queries.new_empty(*grouped, new, size)
        at_once = max(1, SCORES // (heads * min(BLOCK, new) * tokens))
        for first in range(0, rows, at_once):
            some = slice(first, first + at_once)
            k, v = (part[some].transpose(1, 2).flatten(0, 1) for part in (keys, values))
            for start in range(0, new, BLOCK):
                end = min(start + BLOCK, new)
                q = queries[some, start:end].transpose(1, 2).reshape(len(k), -1, size)
                mask = self._ahead(known + start, known + end, queries, grouped[2])
                scores = torch.baddbmm(mask, q, k[:, : known + end].transpose(1, 2), alpha=size**-0.5)
                part = torch.bmm(scores.softmax(-1), v[:, : known + end])
                mixed[some, :, :, start:end] = part.view(-1, *grouped[1:], end - start, size)
        return mixed.flatten(1, 2).transpose(1, 2).reshape(rows * new, -1)

    def _ahead(self, start: int, end: int, like: Tensor, heads: int) -> Tensor:
        """Additive causal mask ``[heads x (end - start), end]`` for the queries from ``start`` to ``end``.

        It is the same for every head, and cached for the other layers.
        """
        if (start, end) not in self.ahead:
            hidden = like.new_full((end - start, end), -torch.inf).triu(start + 1)
            self.ahead[start, end] = hidden.repeat(heads, 1)
        return self.ahead[start, end]
