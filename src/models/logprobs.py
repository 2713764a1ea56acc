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
    time. No gradient keeps them: through a head that is not trained it is taken at once, else they are made again in
    the backward pass where there is more than one such piece.
    """
    probe = head(hidden[:1].detach())
    pieces = [torch.split(part, max(1, at_once // probe.shape[-1])) for part in (hidden, tokens, temperature)]
    if not (probe.requires_grad or entropy_gradient):
        parts = [_FrozenHead.apply(head, *inputs) for inputs in zip(*pieces, strict=True)]  # type: ignore[no-untyped-call]
    elif len(pieces[0]) == 1:
        parts = [_plain(entropy_gradient, head, hidden, tokens, temperature)]
    else:
        parts = [
            checkpoint(_plain, entropy_gradient, head, *inputs, use_reentrant=False)
            for inputs in zip(*pieces, strict=True)
        ]
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts])


def _plain(
    entropy_gradient: bool,
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    tokens: Tensor,
    temperature: Tensor,
) -> tuple[Tensor, Tensor]:
    logprobs = _scaled(head(hidden), temperature).log_softmax(-1)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(-1, tokens[:, None])[:, 0], entropy


def _scaled(logits: Tensor, temperature: Tensor) -> Tensor:
    """Logits over their temperature, in single precision at least."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return logits if bool((temperature == 1).all()) else logits / temperature[:, None].to(logits.dtype)


class _FrozenHead(torch.autograd.Function):
    """The same where only ``hidden`` has a gradient. Each log-prob depends on its own row of it alone, so that its
    slope there, as small as the row, is all that the backward pass needs.

    d log p(token) / d logits = (1[token] - p) / temperature.
    """

    @staticmethod
    def forward(
        ctx: Any, head: Callable[[Tensor], Tensor], hidden: Tensor, tokens: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        leaf = hidden.detach().requires_grad_(ctx.needs_input_grad[1])
        with torch.set_grad_enabled(ctx.needs_input_grad[1]):
            logits = head(leaf)
        scaled = _scaled(logits.detach(), temperature)
        top = scaled.amax(-1, keepdim=True)
        shifted = scaled - top if scaled.dtype == logits.dtype else scaled.sub_(top)
        chosen = shifted.gather(-1, tokens[:, None])[:, 0]
        weights = shifted.exp()
        total = weights.sum(-1)
        entropy = total.log() - torch.linalg.vecdot(weights, shifted) / total
        if ctx.needs_input_grad[1]:
            rate = temperature.to(weights.dtype).reciprocal()
            slope = weights.mul_((-rate / total)[:, None])
            slope[torch.arange(len(tokens), device=tokens.device), tokens] += rate
            ctx.save_for_backward(*torch.autograd.grad(logits, leaf, slope.to(logits.dtype)))
        ctx.mark_non_differentiable(entropy)
        return chosen - total.log(), entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return None, (gradients[0][:, None] * slope).to(slope.dtype), None, None
