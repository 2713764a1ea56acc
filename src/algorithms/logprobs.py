"""Log-probs and entropy of tokens, from the hidden states that predict them."""

from __future__ import annotations

from collections.abc import Callable

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
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        logprobs = (logits / temperature[:, None].to(logits.dtype)).log_softmax(-1)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return logprobs.gather(-1, tokens[:, None])[:, 0], entropy

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
