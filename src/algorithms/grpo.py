"""GRPO (arXiv 2402.03300): the clipped surrogate with one ratio per token, and the options of its variants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from src.algorithms.base import Aggregation, Algorithm, Baseline, Estimator, Scale, Tokens
from src.settings import RunSettings

if TYPE_CHECKING:
    from torch import Tensor


class GRPO(Algorithm):
    """l = -min(r A, clip(r, 1 - e_low, 1 + e_high) A), with r = pi / pi_old of the token.

    Each field is explained in conf/algorithm/grpo.yaml, each formula in src/algorithms/formulas.py. DAPO, Dr. GRPO,
    RLOO, REINFORCE++ and others are settings of this class (conf/algorithm).
    """

    baseline: Baseline = "group"
    scale: Scale = "group"
    epsilon: float = Field(1e-4, ge=0)
    whiten: bool = False
    aggregation: Aggregation = "grpo"
    loss_batch: int = Field(0, ge=0)
    max_tokens: int = 0
    clip_low: float = Field(0.2, ge=0, le=1)
    clip_high: float = Field(0.2, ge=0)
    dual_clip: float | None = Field(None, gt=1)
    kl_beta: float = Field(0.0, ge=0)
    kl: Estimator = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    kl_unbiased: bool = False
    entropy_bonus: float = 0.0
    imitation: float = Field(0.0, ge=0)
    correction: Literal["none", "token", "sequence"] = "none"
    correction_mode: Literal["truncate", "mask"] = "truncate"
    correction_floor: float = Field(0.0, ge=0)
    correction_cap: float = 2.0
    mask_truncated: bool = False
    max_resamples: int = Field(0, ge=0)
    iterations: int = Field(1, ge=1)

    def check(self) -> Iterable[str]:
        if self.aggregation == "dr_grpo" and self.max_tokens < 1:
            yield f"algorithm.max_tokens={self.max_tokens} is the divisor of aggregation=dr_grpo; use 1 or more"
        if self.correction_cap < max(1.0, self.correction_floor):
            yield (
                f"algorithm.correction_cap={self.correction_cap} must be at least 1 (the weight without mismatch) and "
                f"at least algorithm.correction_floor={self.correction_floor}"
            )
        if self.baseline == "none" and self.scale != "none":
            yield (
                f"algorithm.scale={self.scale} needs differences from a baseline, but algorithm.baseline=none; use "
                "scale=none (whiten=true scales over the step) or a baseline"
            )
        if self.baseline == "none" and self.max_resamples:
            yield (
                f"algorithm.max_resamples={self.max_resamples} replaces groups of equal values, but with "
                "algorithm.baseline=none these have a gradient too; use max_resamples=0 or a baseline"
            )
        if self.kl_unbiased and self.kl_in == "reward":
            yield (
                "algorithm.kl_unbiased=true corrects a KL loss, but algorithm.kl_in=reward has none; use "
                "kl_unbiased=false or kl_in=loss"
            )

    def check_run(self, run: RunSettings) -> Iterable[str]:
        available = run.benchmark.train_size if run.benchmark is not None else None
        if run.train is not None and self.max_resamples and available == run.train.problems:
            yield (
                f"algorithm.max_resamples={self.max_resamples} samples more problems, but a step already uses all "
                f"{available} (benchmark.train_size); lower train.problems or raise benchmark.train_size"
            )
        if self.imitation and run.measuring is not None:
            yield (
                f"algorithm.imitation={self.imitation} imitates right answers, but what is measured here has no "
                "verdicts; use algorithm.imitation=0"
            )

    def advantages(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        from src.algorithms.formulas import group_advantages

        return group_advantages(values, self.baseline, self.scale, self.epsilon)

    def divergence(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        from src.algorithms.formulas import kl_estimate

        return kl_estimate(self.kl, logprobs, reference)

    def token_advantages(
        self, advantages: Sequence[float], lengths: Sequence[int], weights: Sequence[float], kl: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """A_t = A - beta * (sum of the KL from token t on), whitened over the step if ``whiten`` (REINFORCE++, arXiv
        2501.03262). The KL is subtracted after baseline and scaling."""
        import torch

        from src.algorithms.formulas import to_go, whitened

        rows = [
            torch.full((length,), advantage, dtype=torch.float64)
            for advantage, length in zip(advantages, lengths, strict=True)
        ]
        if kl is not None:
            rows = [row - self.kl_beta * to_go(tokens) for row, tokens in zip(rows, kl, strict=True)]
        return whitened(rows, weights, self.epsilon) if self.whiten else rows

    def shares(self, lengths: Tensor, weights: Tensor, trajectories: Tensor) -> Tensor:
        from src.algorithms.formulas import row_shares

        return row_shares(self.aggregation, lengths, weights, trajectories, self.loss_batch, self.max_tokens)

    def imitation_shares(self, lengths: Tensor, weights: Tensor, trajectories: Tensor, right: Sequence[bool]) -> Tensor:
        shares = lengths.new_zeros(len(lengths))
        if not self.imitation:
            return shares
        if len(right) != len(lengths):
            raise ValueError(f"algorithm.imitation={self.imitation} needs to know which of the rows are right")
        if chosen := [index for index, one in enumerate(right) if one]:
            shares[chosen] = self.imitation * self.shares(lengths[chosen], weights[chosen], trajectories[chosen])
        return shares

    def surrogate(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The policy loss of each token, and which tokens are clipped; both ``[rows, tokens]`` or ``[rows, 1]``."""
        return self.clipped((tokens.logprobs - tokens.old).exp(), tokens.advantages)

    def clipped(self, ratio: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """PPO's clipped loss for importance ratios, and the tokens that lose their gradient by clipping."""
        from src.algorithms.formulas import clipped_loss

        return clipped_loss(ratio, advantages, self.clip_low, self.clip_high, self.dual_clip)

    def token_loss(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """Token loss: surrogate * sampler correction + beta * KL - bonus * entropy.

        The correction does not multiply the KL (as in TRL). The entropy is aggregated like the loss (as in verl; TRL
        always averages it over tokens). ``kl_unbiased`` multiplies the KL by the importance ratio, so that k1 and k3
        have the gradient of the divergence (DeepSeek-V3.2, arXiv 2512.02556; TRL's ``use_bias_correction_kl``). This
        ratio is per token, also in sequence-level algorithms.
        """
        mask = tokens.mask
        loss, clipped = self.surrogate(tokens)
        sums = {"clip_ratio": (clipped & mask).sum()}
        if self.correction != "none":
            from src.algorithms.formulas import sampler_weights

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
