"""GSPO (arXiv 2507.18071): the clipped surrogate with one ratio a sequence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from src.algorithms.base import Tokens
from src.algorithms.family import Family
from src.algorithms.formulas import clipped_loss


@dataclass(frozen=True)
class GSPO(Family):
    """l = -min(s A, clip(s) A), s = (pi(y) / pi_old(y))^(1/T), the same for every token (equations 5 to 7).

    Its clip ranges are small, since s is a geometric mean. The paper's objective is ``aggregation=grpo``; a mean over
    tokens counts a sequence's ratio once for each of its tokens.
    """

    def surrogate(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        count = tokens.mask.sum(-1, keepdim=True).clamp(min=1)
        ratio = (((tokens.logprobs - tokens.old) * tokens.mask).sum(-1, keepdim=True) / count).exp()
        return clipped_loss(ratio, tokens.advantages, self.clip_low, self.clip_high, self.dual_clip)
