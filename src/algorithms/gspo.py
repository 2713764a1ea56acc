"""GSPO (arXiv 2507.18071): the clipped surrogate with one ratio per sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.algorithms.base import Tokens
from src.algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


class GSPO(GRPO):
    """l = -min(s A, clip(s) A) with s = (pi(y) / pi_old(y))^(1/T), the same for every token (equations 5 to 7).

    Clip ranges are small because s is a geometric mean. The paper's objective is ``aggregation=grpo``; token-level
    aggregations count the ratio of a sequence once for each of its tokens.
    """

    def surrogate(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        count = tokens.mask.sum(-1, keepdim=True).clamp(min=1)
        ratio = (((tokens.logprobs - tokens.old) * tokens.mask).sum(-1, keepdim=True) / count).exp()
        return self.clipped(ratio, tokens.advantages)
