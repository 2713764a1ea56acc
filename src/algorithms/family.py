"""The settings that all policy-gradient algorithms here share. An algorithm is this plus a surrogate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from src.algorithms.base import Tokens
from src.algorithms.formulas import (
    Aggregation,
    Baseline,
    Estimator,
    Scale,
    group_advantages,
    kl_estimate,
    row_shares,
    sampler_weights,
    to_go,
    whitened,
)


@dataclass(frozen=True)
class Family:
    """Each field is explained in conf/algorithm/grpo.yaml, each formula in src/algorithms/formulas.py."""

    baseline: Baseline = "group"
    scale: Scale = "group"
    epsilon: float = 1e-4
    whiten: bool = False
    aggregation: Aggregation = "grpo"
    loss_batch: int = 0
    max_tokens: int = 0
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl_beta: float = 0.0
    kl: Estimator = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    kl_unbiased: bool = False
    entropy_bonus: float = 0.0
    correction: Literal["none", "token", "sequence"] = "none"
    correction_mode: Literal["truncate", "mask"] = "truncate"
    correction_floor: float = 0.0
    correction_cap: float = 2.0
    mask_truncated: bool = False
    max_resamples: int = 0
    iterations: int = 1

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        names = ("epsilon", "clip_low", "clip_high", "kl_beta", "loss_batch", "correction_floor", "max_resamples")
        errors = [
            f"algorithm.{name}={getattr(self, name)} must be 0 or more" for name in names if getattr(self, name) < 0
        ]
        if self.iterations < 1:
            errors.append(f"algorithm.iterations={self.iterations} must be 1 or more")
        if self.dual_clip is not None and self.dual_clip <= 1:
            errors.append(f"algorithm.dual_clip={self.dual_clip} must be null or above 1")
        if self.aggregation == "dr_grpo" and self.max_tokens < 1:
            errors.append(f"algorithm.max_tokens={self.max_tokens} divides in aggregation=dr_grpo; use 1 or more")
        if self.correction_cap < max(1.0, self.correction_floor):
            errors.append(
                f"algorithm.correction_cap={self.correction_cap} must be 1 (no mismatch) or more, and no less than "
                f"algorithm.correction_floor={self.correction_floor}"
            )
        if self.baseline == "none" and self.scale != "none":
            errors.append(
                f"algorithm.scale={self.scale} divides differences, but algorithm.baseline=none compares nothing; use "
                "scale=none (whiten=true scales over the step) or a baseline"
            )
        if self.baseline == "none" and self.max_resamples:
            errors.append(
                f"algorithm.max_resamples={self.max_resamples} replaces groups without spread, which teach nothing by "
                "comparison; with algorithm.baseline=none they do, so use max_resamples=0 or a baseline"
            )
        if self.kl_unbiased and self.kl_in == "reward":
            errors.append("algorithm.kl_unbiased=true corrects a loss; with algorithm.kl_in=reward there is none to it")
        return errors

    def advantages(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        return group_advantages(values, self.baseline, self.scale, self.epsilon)

    def divergence(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        return kl_estimate(self.kl, logprobs, reference)

    def token_advantages(
        self, advantages: Sequence[float], lengths: Sequence[int], weights: Sequence[float], kl: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """A_t = A - beta * sum of the divergences from t on, whitened over the step where asked for (REINFORCE++, arXiv
        2501.03262). The KL joins after baseline and scale."""
        rows = [
            torch.full((length,), advantage, dtype=torch.float64)
            for advantage, length in zip(advantages, lengths, strict=True)
        ]
        if kl is not None:
            rows = [row - self.kl_beta * to_go(tokens) for row, tokens in zip(rows, kl, strict=True)]
        return whitened(rows, weights, self.epsilon) if self.whiten else rows

    def shares(self, lengths: Tensor, weights: Tensor, trajectories: Tensor) -> Tensor:
        return row_shares(self.aggregation, lengths, weights, trajectories, self.loss_batch, self.max_tokens)

    def surrogate(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The policy loss of each token, and which tokens are clipped; ``[rows, tokens]``, or ``[rows, 1]``."""
        raise NotImplementedError

    def token_loss(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """The surrogate, times the sampler's correction, plus beta * KL, minus bonus * entropy.

        The correction does not touch the KL (as TRL). The entropy takes part in the aggregation as the loss does
        (as verl; TRL averages it over tokens whatever the loss type). ``kl_unbiased`` multiplies the KL by the ratio,
        with which k1 and k3 have the gradient of the divergence (DeepSeek-V3.2, arXiv 2512.02556; TRL's
        ``use_bias_correction_kl``; the ratio is the token's, in sequence-level algorithms too).
        """
        mask = tokens.mask
        loss, clipped = self.surrogate(tokens)
        sums = {"clip_ratio": (clipped & mask).sum()}
        if self.correction != "none":
            weights = sampler_weights(
                tokens.old,
                tokens.sampled,
                mask,
                self.correction,
                self.correction_mode,
                self.correction_floor,
                self.correction_cap,
            )
            loss = loss * weights
            sums["sampler_weight"] = (weights * mask).sum()
        if tokens.reference is not None:
            kl = self.divergence(tokens.logprobs, tokens.reference)
            sums["kl"] = (kl.detach() * mask).sum()
            if self.kl_in == "loss":
                kl = kl * (tokens.logprobs - tokens.old).exp() if self.kl_unbiased else kl
                loss = loss + self.kl_beta * kl
        if self.entropy_bonus:
            loss = loss - self.entropy_bonus * tokens.entropy
        return loss, sums
