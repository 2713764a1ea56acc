"""GRPO (arXiv 2402.03300): the clipped surrogate with one ratio a token. Its relatives are settings, see
conf/algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from src.algorithms.base import Tokens
from src.algorithms.family import Family
from src.algorithms.formulas import clipped_loss


@dataclass(frozen=True)
class GRPO(Family):
    """l = -min(r A, clip(r, 1 - e_low, 1 + e_high) A), with r = pi / pi_old of the token."""

    def surrogate(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        ratio = (tokens.logprobs - tokens.old).exp()
        return clipped_loss(ratio, tokens.advantages, self.clip_low, self.clip_high, self.dual_clip)
