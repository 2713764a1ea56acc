"""Drawing tokens by inverse CDF: temperature, top-p, greedy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 128
"""Tokens that are summed first, so that the float64 sum runs over a vocabulary's blocks and then inside one."""


def nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the smallest set of tokens whose probability reaches ``top_p`` (arXiv 1904.09751).

    ``probabilities`` is ``[rows, vocabulary]``, ``top_p`` ``[rows]``. The most likely token always stays; of equally
    likely ones, the first.
    """
    cut = top_p < 1  # rounding must not cut a row that keeps everything
    # Together, tokens below this floor weigh less than 1 - top_p: none of them is in the nucleus.
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
    """The column of each row whose cumulative weight first exceeds ``fraction`` of the total, and how far inside."""
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(fraction * total, torch.nextafter(total, torch.zeros_like(total)))[:, None]
    column = torch.searchsorted(cumulative, target, right=True).clamp_(max=weights.shape[-1] - 1)
    width = weights.gather(-1, column)
    inside = (target - cumulative.gather(-1, column) + width) / width
    return column[:, 0], inside[:, 0].clamp_(0, 1)


def invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first token of each row whose cumulative weight exceeds ``uniform`` of the row's total, ``[rows]``.

    ``weights`` is ``[rows, vocabulary]``; a token without weight is never taken.
    """
    if weights.shape[-1] <= 8 * BLOCK:
        return _locate(weights, uniform)[0]
    blocks = pad(weights, (0, -weights.shape[-1] % BLOCK)).view(len(weights), -1, BLOCK)
    block, inside = _locate(blocks.sum(-1), uniform)
    place = _locate(blocks[torch.arange(len(blocks), device=blocks.device), block], inside)[0]
    return (block * BLOCK + place).clamp_(max=weights.shape[-1] - 1)  # weights that are not numbers lead anywhere


def draw(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One token a row, and its log-probs under the full distribution at the row's temperature and at temperature 1.

    ``logits`` is ``[rows, vocabulary]``; the others ``[rows]``. Temperature 0 takes the most likely token, with its
    log-prob at temperature 1 for both. The token is the first whose cumulative probability exceeds ``uniform``.
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
    return tokens, logprobs, torch.where(plain, logprobs, at_one)  # a row does not notice the others' temperatures
