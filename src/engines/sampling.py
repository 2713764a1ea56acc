"""Drawing tokens: each row from its own stream of random numbers, by inverse CDF."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def uniforms(streams: Sequence[int], count: int) -> Tensor:
    """Random numbers in [0, 1), float64 ``[len(streams), count]``; row i depends on ``streams[i]`` alone (Philox)."""
    rows = [np.random.Generator(np.random.Philox(key=stream)).random(count) for stream in streams]
    return torch.from_numpy(np.stack(rows))


def nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """Mask all but the smallest set of tokens whose probability reaches ``top_p`` (arXiv 1904.09751).

    ``logits`` is ``[rows, vocabulary]``, ``top_p`` ``[rows]``. The most likely token always stays.
    """
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    outside = (before >= top_p[:, None]) & (top_p < 1)[:, None]  # rounding must not cut a row that keeps everything
    dropped = outside.scatter(-1, order, outside)
    return logits.masked_fill(dropped, float("-inf"))


def draw(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One token a row, and its log-prob under the full distribution at the row's temperature.

    ``logits`` is ``[rows, vocabulary]``; the others ``[rows]``. Temperature 0 takes the most likely token, with its
    log-prob at temperature 1. The token is the first whose cumulative probability exceeds ``uniform``.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, torch.ones_like(temperature), temperature)[:, None].to(logits.dtype)
    logprobs = scaled.log_softmax(-1)
    candidates = nucleus(scaled, top_p) if bool((top_p < 1).any()) else scaled
    cumulative = candidates.softmax(-1).cumsum(-1, dtype=torch.float64)
    target = uniform[:, None].to(cumulative.device) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)[:, 0]
    tokens = torch.where(greedy, logits.argmax(-1), tokens)
    return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]
