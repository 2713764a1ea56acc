"""What an algorithm is: a baseline for groups, a share for each row, a loss for each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Algorithm(Protocol):
    """Everything between values and a gradient. Nothing here knows what a turn is."""

    iterations: int
    kl_beta: float

    def advantages(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        """Advantages of each group from its values."""
        ...

    def shares(self, lengths: Tensor, weights: Tensor) -> Tensor:
        """What each row's token sum counts in the loss, ``[rows]``, from the completion lengths and weights of the
        *whole* batch; so a split into micro-batches cannot change the gradient."""
        ...

    def token_loss(
        self, logprobs: Tensor, old: Tensor, reference: Tensor | None, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each completion token, and the sums of its diagnostics over the mask.

        Log-probs and ``mask`` are ``[rows, tokens]``, ``advantages`` is ``[rows]``; ``reference`` is given when
        ``kl_beta`` is not 0.
        """
        ...
