"""Attention of rows that share their prompt: each looks at the prompt and at itself, and nothing else is computed.

With one mask over a whole sequence, attention would be computed between siblings too, only to be thrown away: for eight
completions of one prompt that is most of it. Only what a sequence holds once is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from src.models.packing import Span

NAME = "sdpa_shared_prompt"

# What torch's own attention function calls on a CPU; only so does it tell the normaliser that its gradient needs.
_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attend_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Piece:
    """A span as one call of the fused kernel.

    Tensors are ``[sequences, width, heads, size]`` where they hold everything, ``[rows, heads, tokens, size]`` here.
    """

    def __init__(self, span: Span, precision: torch.dtype) -> None:
        self.span, self.precision = span, precision
        self.options: dict[str, Any] = {"dropout_p": 0.0, "is_causal": span.mask is None}
        if span.mask is not None:
            self.options["attn_mask"] = torch.zeros(span.mask.shape, dtype=precision).masked_fill_(
                ~span.mask, -torch.inf
            )

    def own(self, table: Tensor) -> Tensor:
        """The span's own tokens; where a row is shorter, some token that no other looks at."""
        found = table.flatten(0, 1).index_select(0, self.span.place).to(self.precision)
        return found.view(self.span.rows, -1, *table.shape[2:]).transpose(1, 2)

    def own_gradient(self, table: Tensor) -> Tensor:
        """The same, with zeros where a row is shorter."""
        found = self.own(table)
        return found if self.span.real is None else found.mul_(self.span.real[:, None, :, None])

    def seen(self, table: Tensor) -> Tensor:
        """The tokens that are looked at: the prompt and the span's own."""
        own = self.own(table)
        if self.span.sequence is None:
            return own
        prompt = table[:, : self.span.prompt].index_select(0, self.span.sequence)
        return torch.cat([prompt.transpose(1, 2).to(self.precision), own], dim=2)

    def put_own(self, table: Tensor, values: Tensor) -> None:
        """Add to ``table`` what belongs to the tokens that ``own`` took from it."""
        values = values.transpose(1, 2).to(table.dtype)
        if self.span.real is None:
            table.flatten(0, 1)[self.span.place] += values.flatten(0, 1)
        else:
            table.flatten(0, 1)[self.span.place[self.span.real.flatten()]] += values[self.span.real]

    def put_seen(self, table: Tensor, values: Tensor) -> None:
        """Add to ``table`` what belongs to the tokens that ``seen`` took from it."""
        self.put_own(table, values[:, :, self.span.prompt :])
        if self.span.sequence is not None:
            prompt = values[:, :, : self.span.prompt].transpose(1, 2).to(table.dtype)
            table[:, : self.span.prompt].index_add_(0, self.span.sequence, prompt)


def pieces(spans: Sequence[Span], dtype: torch.dtype) -> list[Piece]:
    """What ``shared_prompt_attention`` is to compute of a forward pass in ``dtype``: halves in single precision, which
    the fused kernels of a CPU take half the time for."""
    return [Piece(span, torch.float64 if dtype == torch.float64 else torch.float32) for span in spans]


class _SharedPrompt(torch.autograd.Function):
    """``queries`` ``[sequences, width, heads, size]``, keys and values with as many heads or fewer; gives the queries'
    shape."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, pieces: list[Piece], scale: float) -> Tensor:
        result, normalisers = torch.zeros_like(queries), []
        for piece in pieces:
            inputs = piece.own(queries), piece.seen(keys), piece.seen(values)
            mixed, normaliser = _attend(*inputs, scale=scale, **piece.options)
            piece.put_own(result, mixed)
            normalisers.append(normaliser)
        ctx.save_for_backward(queries, keys, values, result, *normalisers)
        ctx.pieces, ctx.scale = pieces, scale
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        queries, keys, values, result, *normalisers = ctx.saved_tensors
        found = [torch.zeros_like(tensor, dtype=ctx.pieces[0].precision) for tensor in (queries, keys, values)]
        for piece, normaliser in zip(ctx.pieces, normalisers, strict=True):
            inputs = piece.own(queries), piece.seen(keys), piece.seen(values)
            gradient, mixed = piece.own_gradient(gradients[0]), piece.own(result)
            query, key, value = _attend_backward(gradient, *inputs, mixed, normaliser, scale=ctx.scale, **piece.options)
            piece.put_own(found[0], query)
            piece.put_seen(found[1], key)
            piece.put_seen(found[2], value)
        query, key, value = (table.to(queries.dtype) for table in found)
        return query, key, value, None, None


def shared_prompt_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    shared: list[Piece] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: ``query`` ``[sequences, heads, width, size]``, keys and values with as many
    heads or fewer; gives ``[sequences, width, heads, size]``.

    ``shared`` is what is to be computed; without it, or where a layer does more than to look back, ``attention_mask``
    says what is seen, as in transformers' own function.
    """
    window = sliding_window is not None and sliding_window < query.shape[2]
    if shared is None or dropout or window or options.get("position_bias") is not None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return found
    tables = (tensor.transpose(1, 2) for tensor in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    result: Tensor = _SharedPrompt.apply(*tables, shared, scale)  # type: ignore[no-untyped-call]
    return result, None


AttentionInterface.register(NAME, shared_prompt_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def install(model: Any) -> bool:
    """Make ``shared_prompt_attention`` the attention of a model on a CPU, where transformers lets it choose."""
    chosen = model.config._attn_implementation == "sdpa" and model.device.type == "cpu"
    if chosen and model._can_set_attn_implementation():
        model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)
