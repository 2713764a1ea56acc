"""Log-probs and entropy of tokens, from the hidden states that predict them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**24
"""Logits that are held at a time (64 MB in fp32): memory does not grow with length times vocabulary."""


def token_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    tokens: Tensor,
    temperature: Tensor,
    entropy_gradient: bool = False,
    at_once: int = LOGITS_AT_ONCE,
) -> tuple[Tensor, Tensor]:
    """Log-prob of each token under softmax(head(hidden) / temperature), and the entropy of that distribution.

    ``hidden`` is ``[tokens, width]`` (row t predicts token t), ``tokens`` and ``temperature`` ``[tokens]``, as both
    results; the entropy has a gradient only where asked for. Logits are made for ``at_once / vocabulary`` tokens at a
    time and, with more than one such piece, made again in the backward pass instead of being kept.
    """

    def piece(hidden: Tensor, tokens: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden)
        if not entropy_gradient:
            found: tuple[Tensor, Tensor] = _Chosen.apply(logits, tokens, temperature)  # type: ignore[no-untyped-call]
            return found
        logprobs = _scaled(logits, temperature).log_softmax(-1)
        return logprobs.gather(-1, tokens[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(-1)

    with torch.no_grad():
        vocabulary = head(hidden[:1]).shape[-1]
    size = max(1, at_once // vocabulary)
    if len(tokens) <= size:
        return piece(hidden, tokens, temperature)
    parts = [
        checkpoint(piece, *inputs, use_reentrant=False)
        for inputs in zip(*(torch.split(part, size) for part in (hidden, tokens, temperature)), strict=True)
    ]
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts])


def _scaled(logits: Tensor, temperature: Tensor) -> Tensor:
    """Logits over their temperature, in single precision at least."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return logits if bool((temperature == 1).all()) else logits / temperature[:, None].to(logits.dtype)


class _Chosen(torch.autograd.Function):
    """The same without a gradient of the entropy: it keeps no table but the logits, and goes over it half as often.

    d log p(token) / d logits = (1[token] - p) / temperature.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        scaled = _scaled(logits, temperature)
        top = scaled.amax(-1, keepdim=True)
        shifted = scaled - top
        weights = shifted.exp()
        total = weights.sum(-1)
        ctx.save_for_backward(logits, tokens, temperature, top, total)
        entropy = total.log() - torch.linalg.vecdot(weights, shifted) / total
        ctx.mark_non_differentiable(entropy)
        return shifted.gather(-1, tokens[:, None])[:, 0] - total.log(), entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, tokens, temperature, top, total = ctx.saved_tensors
        each = gradients[0] / temperature.to(gradients[0].dtype)
        result = (_scaled(logits, temperature) - top).exp_().mul_(-(each / total)[:, None])
        result[torch.arange(len(tokens), device=tokens.device), tokens] += each
        return result.to(logits.dtype), None, None
