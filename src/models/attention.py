"""Shared-prompt attention for training: each completion attends to its prompt and to itself.

A dense mask over a packed sequence would also compute attention between sibling completions and discard it; with eight
completions of one prompt, that is most of the work. The backward pass stores the packed tensors, in which each prompt
occurs once, instead of a copy of the prompt for every completion.
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

# The operator behind torch's scaled_dot_product_attention on a CPU. It is called directly because it also returns the
# softmax normaliser (log-sum-exp) that the backward operator needs.
_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attend_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Piece:
    """One span of a packed batch, computed by one call of the fused attention kernel.

    A ``table`` holds the whole batch as ``[sequences, width, heads, size]``; tensors of the span are ``[rows, heads,
    tokens, size]``.
    """

    def __init__(self, span: Span, precision: torch.dtype) -> None:
        self.span, self.precision = span, precision
        self.options: dict[str, Any] = {"dropout_p": 0.0, "is_causal": span.mask is None}
        if span.mask is not None:
            self.options["attn_mask"] = torch.zeros(span.mask.shape, dtype=precision).masked_fill_(
                ~span.mask, -torch.inf
            )

    def own(self, table: Tensor) -> Tensor:
        """Gather the span's own tokens. Padding repeats a token; it is at the end, so no real token attends to it."""
        gathered = table.flatten(0, 1).index_select(0, self.span.place).to(self.precision)
        return gathered.view(self.span.rows, -1, *table.shape[2:]).transpose(1, 2)

    def own_gradient(self, table: Tensor) -> Tensor:
        """Gather the span's own tokens from a table of gradients, with zeros as padding."""
        gathered = self.own(table)
        return gathered if self.span.real is None else gathered.mul_(self.span.real[:, None, :, None])

    def seen(self, table: Tensor) -> Tensor:
        """Gather the tokens that the span attends to: the prompt, then the span's own tokens."""
        own = self.own(table)
        if self.span.sequence is None:
            return own
        prompt = table[:, : self.span.prompt].index_select(0, self.span.sequence)
        return torch.cat([prompt.transpose(1, 2).to(self.precision), own], dim=2)

    def put_own(self, table: Tensor, values: Tensor) -> None:
        """Add ``values`` to ``table``, contiguous, at the span's own tokens (the adjoint of ``own``)."""
        values = values.transpose(1, 2).to(table.dtype)
        tokens = table.view(-1, *table.shape[2:])  # a view or an error, never a copy that would lose the sum
        if self.span.real is None:
            tokens[self.span.place] += values.flatten(0, 1)
        else:
            tokens[self.span.place[self.span.real.flatten()]] += values[self.span.real]

    def put_seen(self, table: Tensor, values: Tensor) -> None:
        """Add ``values`` to ``table`` at the prompt and the span's own tokens (the adjoint of ``seen``)."""
        self.put_own(table, values[:, :, self.span.prompt :])
        if self.span.sequence is not None:
            prompt = values[:, :, : self.span.prompt].transpose(1, 2).to(table.dtype)
            table[:, : self.span.prompt].index_add_(0, self.span.sequence, prompt)


def pieces(spans: Sequence[Span], dtype: torch.dtype) -> list[Piece]:
    """The kernel calls of ``shared_prompt_attention`` for a forward pass in ``dtype``.

    Half precision is computed in float32, which takes the fused kernels of a CPU half the time.
    """
    return [Piece(span, torch.float64 if dtype == torch.float64 else torch.float32) for span in spans]


class _SharedPrompt(torch.autograd.Function):
    """Shared-prompt attention with its gradient: ``queries`` and the result are ``[sequences, width, heads, size]``;
    keys and values may have fewer heads (grouped queries)."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, pieces: list[Piece], scale: float) -> Tensor:
        result, normalisers = torch.zeros_like(queries, memory_format=torch.contiguous_format), []
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
        sums = [
            torch.zeros_like(tensor, dtype=ctx.pieces[0].precision, memory_format=torch.contiguous_format)
            for tensor in (queries, keys, values)
        ]
        for piece, normaliser in zip(ctx.pieces, normalisers, strict=True):
            inputs = piece.own(queries), piece.seen(keys), piece.seen(values)
            gradient, mixed = piece.own_gradient(gradients[0]), piece.own(result)
            query, key, value = _attend_backward(gradient, *inputs, mixed, normaliser, scale=ctx.scale, **piece.options)
            piece.put_own(sums[0], query)
            piece.put_seen(sums[1], key)
            piece.put_seen(sums[2], value)
        query, key, value = (table.to(queries.dtype) for table in sums)
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
    """Shared-prompt attention behind transformers' ``AttentionInterface``.

    ``query`` is ``[sequences, heads, width, size]``; ``key`` and ``value`` may have fewer heads. The result is
    ``[sequences, width, heads, size]``. ``shared`` are the kernel calls from ``pieces``. Without them, and in layers
    with dropout, a sliding window shorter than a prompt with its completion, a position bias or values of another size
    than the keys, transformers' own function runs with ``attention_mask`` instead.
    """
    window = sliding_window is not None and any(sliding_window < piece.span.seen for piece in shared or ())
    uneven = value.shape[-1] != query.shape[-1]
    if shared is None or dropout or window or uneven or options.get("position_bias") is not None:
        dense: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return dense
    tables = (tensor.transpose(1, 2) for tensor in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    result: Tensor = _SharedPrompt.apply(*tables, shared, scale)  # type: ignore[no-untyped-call]
    return result, None


AttentionInterface.register(NAME, shared_prompt_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def mask_for(model: Any, visible: Tensor) -> Tensor:
    """The attention mask to pass to ``model`` for ``visible``, boolean ``[packs, 1, width, width]``.

    Eager attention adds the mask to the scores, so it gets 0 and the lowest number instead of true and false.
    """
    if model.config._attn_implementation != "eager":
        return visible
    lowest = torch.finfo(model.dtype).min
    return torch.zeros(visible.shape, dtype=model.dtype, device=visible.device).masked_fill_(~visible, lowest)


def install(model: Any) -> bool:
    """Use ``shared_prompt_attention`` in a model on a CPU, if transformers supports changing its attention.

    Returns whether the model uses it now.
    """
    chosen = model.config._attn_implementation == "sdpa" and model.device.type == "cpu"
    if chosen and model._can_set_attn_implementation():
        model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)


def relative_cost(model: Any) -> float:
    """Cost of attending to one token in a causal LM, as a fraction of the other work on a token outside the head."""
    embeddings = model.get_input_embeddings(), model.get_output_embeddings()
    head = {id(parameter) for module in embeddings for parameter in module.parameters()}
    body = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in head)
    return float(2 * model.config.hidden_size * model.config.num_hidden_layers / body)  # 4 h L of 2 P operations
