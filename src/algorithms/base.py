"""What an algorithm is: a baseline for groups, a share for each row, a loss for each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """A micro-batch of completion tokens; every tensor is ``[rows, tokens]``, padded where ``mask`` is false."""

    logprobs: Tensor  # of the policy that learns, with its gradient
    old: Tensor  # of the policy that sampled, by the learner's own forward pass
    sampled: Tensor  # of the policy that sampled, as its sampler reported them
    advantages: Tensor
    mask: Tensor
    entropy: Tensor  # with a gradient only where the algorithm has an entropy bonus
    reference: Tensor | None = None  # log-probs of the adapter switched off, where there is a KL term


class Algorithm(Protocol):
    """Everything between values and a gradient. Nothing here knows what a turn is."""

    iterations: int  # optimizer steps on the same rows
    kl_beta: float
    kl_in: Literal["loss", "reward"]
    entropy_bonus: float
    mask_truncated: bool  # rows that ran out of tokens lose their loss
    max_resamples: int  # waves of further problems in place of those that teach nothing

    def advantages(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        """Advantages of each group from its values."""
        ...

    def divergence(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        """The estimate of the KL divergence from the reference at each token, ``[rows, tokens]``."""
        ...

    def token_advantages(
        self, advantages: Sequence[float], lengths: Sequence[int], weights: Sequence[float], kl: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """Advantages of each row's tokens (float64, ``[length]``) from those of the rows of the *whole* batch; ``kl``
        is each token's divergence at sampling time, given when it belongs to the reward."""
        ...

    def shares(self, lengths: Tensor, weights: Tensor, trajectories: Tensor) -> Tensor:
        """What each row's token sum counts in the loss, ``[rows]``, from the completion lengths, weights and
        trajectory numbers of the *whole* batch; so a split into micro-batches cannot change the gradient."""
        ...

    def token_loss(self, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each completion token, and the sums of its diagnostics over the mask."""
        ...
