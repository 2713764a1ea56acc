"""GRPO (arXiv 2402.03300) with its normalisations: bnpo (TRL), dapo (2503.14476), dr_grpo (2503.20783)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class GRPO:
    """Group-relative advantages and the clipped surrogate.

    ``scale``: ``group`` divides by the group's standard deviation (Bessel-corrected, plus ``epsilon``), ``batch`` by
    that of all values of the step, ``none`` leaves R - mean.

    ``aggregation`` of token losses, with row weights w and lengths T:
      ``grpo``     sum_i w_i (1/T_i) sum_t l / sum w
      ``bnpo``     sum w l / sum w T within each logical batch of ``loss_batch`` rows (0: all), mean over batches
      ``dapo``     sum w l / sum w T over the whole step
      ``dr_grpo``  sum w l / (sum w * max_tokens)
    """

    scale: Literal["group", "batch", "none"] = "group"
    epsilon: float = 1e-4
    aggregation: Literal["grpo", "bnpo", "dapo", "dr_grpo"] = "grpo"
    loss_batch: int = 0
    max_tokens: int = 0  # dr_grpo's constant length
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl_beta: float = 0.0
    iterations: int = 1

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = [
            f"algorithm.{name}={getattr(self, name)} must be 0 or more"
            for name in ("epsilon", "clip_low", "clip_high", "kl_beta", "loss_batch")
            if getattr(self, name) < 0
        ]
        if self.iterations < 1:
            errors.append(f"algorithm.iterations={self.iterations} must be 1 or more")
        if self.dual_clip is not None and self.dual_clip <= 1:
            errors.append(f"algorithm.dual_clip={self.dual_clip} must be null or above 1")
        if self.aggregation == "dr_grpo" and self.max_tokens < 1:
            errors.append(f"algorithm.max_tokens={self.max_tokens} divides in aggregation=dr_grpo; use 1 or more")
        return errors

    def advantages(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        batch = [value for group in values for value in group]
        overall = statistics.stdev(batch) if self.scale == "batch" and len(batch) > 1 else 0.0
        result = []
        for group in values:
            mean = statistics.fmean(group)
            if min(group) == max(group):  # exactly nothing to learn, whatever the mean rounds to
                result.append([0.0] * len(group))
                continue
            spread = statistics.stdev(group) if self.scale == "group" else overall
            divisor = 1.0 if self.scale == "none" else spread + self.epsilon
            result.append([(value - mean) / divisor for value in group])
        return result

    def shares(self, lengths: Tensor, weights: Tensor) -> Tensor:
        match self.aggregation:
            case "grpo":
                return weights / (weights.sum() * lengths)
            case "dapo":
                return weights / (weights * lengths).sum()
            case "dr_grpo":
                return weights / (weights.sum() * self.max_tokens)
            case "bnpo":
                size = self.loss_batch or len(weights)
                parts = list(zip(torch.split(weights, size), torch.split(lengths, size), strict=True))
                return torch.cat([part / ((part * length).sum() * len(parts)) for part, length in parts])
        raise ValueError(f"algorithm.aggregation={self.aggregation!r}; valid: grpo, bnpo, dapo, dr_grpo")

    def token_loss(
        self, logprobs: Tensor, old: Tensor, reference: Tensor | None, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-min(r A, clip(r, 1 - e_low, 1 + e_high) A), for A < 0 bounded by -c A (dual clip), plus beta * k3.

        k3 = e^u - u - 1 with u = log pi_ref - log pi (Schulman's estimator of the reverse KL divergence).
        """
        advantage = advantages[:, None]
        ratio = (logprobs - old).exp()
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        loss = -torch.minimum(ratio * advantage, clipped * advantage)
        if self.dual_clip is not None:
            loss = torch.where(advantage < 0, torch.minimum(loss, -self.dual_clip * advantage), loss)
        outside = ((ratio < 1 - self.clip_low) & (advantage < 0)) | ((ratio > 1 + self.clip_high) & (advantage > 0))
        sums = {"clip_ratio": (outside & mask).sum()}
        if reference is not None:
            difference = reference - logprobs
            k3 = difference.exp() - difference - 1
            loss = loss + self.kl_beta * k3
            sums["kl"] = (k3.detach() * mask).sum()
        return loss, sums
