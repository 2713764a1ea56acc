"""Causal attention inside prompts that are read together, some of which go on from a prefix that was read before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from src.engines.local.cache import KeysValues, Prefix
from src.engines.local.native import Kernels

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
