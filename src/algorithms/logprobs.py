"""Log-probs and entropy of completion tokens, from logits."""

from __future__ import annotations

import torch
from torch import Tensor


def token_logprobs(
    logits: Tensor, tokens: Tensor, temperature: Tensor, entropy_gradient: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-prob of each token under softmax(logits / temperature), and the entropy of that distribution.

    ``logits`` is ``[rows, tokens, vocabulary]`` (position t predicts token t), ``tokens`` ``[rows, tokens]``,
    ``temperature`` ``[rows]``. Both results are ``[rows, tokens]``; the entropy has a gradient only where asked for.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    logprobs = (logits / temperature[:, None, None].to(logits.dtype)).log_softmax(-1)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(-1, tokens[..., None])[..., 0], entropy
