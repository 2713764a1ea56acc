"""The contract of an algorithm: from values of groups to advantages, shares of rows and losses of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from src.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

Baseline = Literal["group", "leave_one_out", "none"]
Scale = Literal["group", "batch", "none"]
Aggregation = Literal["grpo", "bnpo", "dapo", "dr_grpo", "trajectory"]
Estimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class Tokens:
    """A micro-batch of completion tokens; every tensor is ``[rows, tokens]``, padded where ``mask`` is false."""

    logprobs: Tensor  # of the policy being trained, with gradient
    old: Tensor  # of the policy that sampled, computed by the trainer
    sampled: Tensor  # of the policy that sampled, reported by the sampler
    advantages: Tensor
    mask: Tensor
    entropy: Tensor  # with gradient only if the algorithm has an entropy bonus
    reference: Tensor | None = None  # log-probs of the base, where there is a KL term


class Algorithm(Section, ABC):
    """Everything between values and a gradient. Algorithms see rows of tokens, never turns."""

    iterations: int = 1  # optimizer steps on the same rows
    kl_beta: float = 0.0
    kl_in: Literal["loss", "reward"] = "loss"
    entropy_bonus: float = 0.0
    mask_truncated: bool = False  # rows that ran out of tokens have no loss
    max_resamples: int = 0  # further waves of problems that replace uninformative ones
    scale: Scale = "group"

    @abstractmethod
    def advantages(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        """Advantages of each group from its values."""

    @abstractmethod
    def divergence(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        """The estimate of the KL divergence from the reference at each token, ``[rows, tokens]``."""

    @abstractmethod
    def token_advantages(
        self, advantages: Sequence[float], lengths: Sequence[int], weights: Sequence[float], kl: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """Advantages of each row's tokens (float64, ``[length]``) from those of the rows of the *whole* batch.

        ``kl`` is each token's divergence at sampling time, given where the KL is part of the reward.
        """

    @abstractmethod
    def shares(self, lengths: Tensor, weights: Tensor, trajectories: Tensor) -> Tensor:
        """The factor of each row's token sum in the loss, ``[rows]``.

        Computed from completion lengths, weights and trajectory numbers of the *whole* batch, so that the split into
        micro-batches cannot change the gradient.
        """

    @abstractmethod
    def token_loss(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each completion token, and the sums of its diagnostics over the mask."""
