"""Abstract base class of an algorithm: advantages of groups, aggregation weights of rows and losses of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from src.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

Baseline = Literal["group", "leave_one_out", "none"]
Scale = Literal["group", "batch", "mean", "none"]
Aggregation = Literal["grpo", "bnpo", "dapo", "dr_grpo", "trajectory"]
Estimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class Tokens:
    """A micro-batch of completion tokens; every tensor is ``[rows, tokens]``, padded where ``mask`` is false."""

    logprobs: Tensor  # log-probs under the policy being trained, with gradient
    old: Tensor  # log-probs under the sampling policy, computed by the trainer
    sampled: Tensor  # log-probs under the sampling policy, reported by the sampler
    advantages: Tensor
    mask: Tensor
    entropy: Tensor  # with gradient only if the algorithm has an entropy bonus
    reference: Tensor | None = None  # log-probs under the base model, if the algorithm has a KL term


class Algorithm(Section, ABC):
    """A policy-gradient algorithm: from values to the loss. It sees rows of tokens, never turns."""

    iterations: int = 1  # optimizer steps on the same rows
    kl_beta: float = 0.0
    kl_in: Literal["loss", "reward"] = "loss"
    entropy_bonus: float = 0.0
    imitation: float = 0.0  # weight of the negative log-likelihood of right answers in the loss
    mask_truncated: bool = False  # truncated completions have no loss
    max_resamples: int = 0  # dynamic sampling: maximum number of extra waves that replace uninformative problems
    scale: Scale = "group"

    @abstractmethod
    def advantages(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        """Advantages of each group from its values."""

    @abstractmethod
    def divergence(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        """Estimate of the KL divergence from the reference at each token, ``[rows, tokens]``."""

    @abstractmethod
    def token_advantages(
        self, advantages: Sequence[float], lengths: Sequence[int], weights: Sequence[float], kl: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """Token advantages of each row (float64, ``[length]``) from the row advantages of the *whole* batch.

        ``kl`` is the KL divergence of each token at sampling time; it is given only if the KL is part of the reward.
        """

    @abstractmethod
    def shares(self, lengths: Tensor, weights: Tensor, trajectories: Tensor) -> Tensor:
        """Aggregation weights ``[rows]``: the loss is the weighted sum of the rows' summed token losses.

        They depend on the completion lengths, weights and trajectory numbers of the *whole* batch, so that the split
        into micro-batches does not change the gradient.
        """

    @abstractmethod
    def imitation_shares(self, lengths: Tensor, weights: Tensor, trajectories: Tensor, right: Sequence[bool]) -> Tensor:
        """Weights ``[rows]`` of the rows' summed negative log-likelihoods: ``imitation`` times the mean over the rows
        that are ``right``, aggregated as the loss is, and 0 for all others.

        Raises:
            ValueError: it is not known which rows are right.
        """

    @abstractmethod
    def token_loss(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each completion token, and diagnostics summed over the masked tokens."""
