"""Token sampling by inverse CDF: temperature, top-p, greedy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 128
"""Tokens per block. The search goes over block sums first and then inside one block, so float64 sums stay short."""


def nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the smallest set of tokens whose probability reaches ``top_p`` (arXiv 1904.09751).

    ``probabilities`` is ``[rows, vocabulary]``, ``top_p`` ``[rows]``. The most likely token is always kept; among
    equally likely tokens, those with the lowest ids are kept first.
    """
    cut = top_p < 1  # a row with top_p = 1 keeps every token, whatever the rounding of its cumulative sum
    # All tokens below this floor together weigh less than 1 - top_p, so none of them is in the nucleus.
    floor = torch.where(cut, (1 - top_p) / probabilities.shape[-1], torch.inf)[:, None].to(probabilities.dtype)
    count = max(1, int((probabilities >= floor).sum(-1).max()))
    top = probabilities.topk(count, dim=-1).values
    before = top.cumsum(-1, dtype=torch.float64) - top
    size = (before < top_p[:, None]).sum(-1, keepdim=True).clamp_(min=1)
    least = top.gather(-1, size - 1)
    tied = probabilities == least
    spare = size - (top > least).sum(-1, keepdim=True)
    if bool((tied.sum(-1, keepdim=True) > spare).any()):
        tied &= tied.cumsum(-1) <= spare
    return torch.where((probabilities > least) | tied | ~cut[:, None], probabilities, 0)


def _locate(weights: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
    """Per row: the first column whose cumulative weight exceeds ``fraction`` of the row's total, and how much of that
    column's own weight lies below the target (0 to 1)."""
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(fraction * total, torch.nextafter(total, torch.zeros_like(total)))[:, None]
    column = torch.searchsorted(cumulative, target, right=True).clamp_(max=weights.shape[-1] - 1)
    width = weights.gather(-1, column)
    inside = (target - cumulative.gather(-1, column) + width) / width
    return column[:, 0], inside[:, 0].clamp_(0, 1)


def invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first token of each row whose cumulative weight exceeds ``uniform`` of the row's total, ``[rows]``.

    ``weights`` is ``[rows, vocabulary]``; a token of weight 0 is never selected.
    """
    if weights.shape[-1] <= 8 * BLOCK:
        return _locate(weights, uniform)[0]
    blocks = pad(weights, (0, -weights.shape[-1] % BLOCK)).view(len(weights), -1, BLOCK)
    block, inside = _locate(blocks.sum(-1), uniform)
    place = _locate(blocks[torch.arange(len(blocks), device=blocks.device), block], inside)[0]
    return (block * BLOCK + place).clamp_(max=weights.shape[-1] - 1)  # NaN weights can point into the padding


def draw(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sample one token per row. Returns the tokens, their log-probs at the row's temperature, and at temperature 1.

    ``logits`` is ``[rows, vocabulary]``; the other arguments and the results are ``[rows]``. Log-probs are under the
    full distribution, before top-p. The token is the first whose cumulative probability, after top-p, exceeds
    ``uniform``. Temperature 0 selects the most likely token, and both log-probs are then those at temperature 1.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    greedy = temperature == 0
    scale = temperature.masked_fill(greedy, 1)
    plain = scale == 1
    scaled = logits if bool(plain.all()) else logits / scale[:, None].to(logits.dtype)
    probabilities = scaled.softmax(-1)
    candidates = nucleus(probabilities, top_p) if bool((top_p < 1).any()) else probabilities
    tokens = invert(candidates, uniform.to(logits.device))
    if bool(greedy.any()):
        tokens = torch.where(greedy, logits.argmax(-1), tokens)
    logprobs = probabilities.gather(-1, tokens[:, None])[:, 0].log()
    if scaled is logits:
        return tokens, logprobs, logprobs
    at_one = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    # A row at temperature 1 gets the same bits whatever the temperatures of the other rows.
    return tokens, logprobs, torch.where(plain, logprobs, at_one)
