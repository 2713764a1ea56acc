"""CISPO (MiniMax-M1, arXiv 2506.13585): REINFORCE with a clipped importance weight; no token loses its gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from src.algorithms.base import Tokens
from src.algorithms.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


class CISPO(GRPO):
    """l = -sg[clip(r, 1 - e_low, 1 + e_high)] A log pi (equations 4 and 5), with r = pi / pi_old of the token.

    ``clip_low=1`` means no lower bound, as published. The cap is 1 + ``clip_high``, as in the paper; TRL's
    ``epsilon_high`` is the cap itself (ScaleRL, arXiv 2510.13786).
    """

    def check(self) -> Iterable[str]:
        yield from super().check()
        if self.dual_clip is not None:
            yield f"algorithm.dual_clip={self.dual_clip} bounds PPO's clipped loss, which CISPO does not use; use null"

    def surrogate(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        ratio = (tokens.logprobs - tokens.old).exp().detach()
        low, high = 1 - self.clip_low, 1 + self.clip_high
        loss = -ratio.clamp(low, high) * tokens.advantages * tokens.logprobs
        return loss, (ratio < low) | (ratio > high)
