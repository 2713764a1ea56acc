"""AdamW (arXiv 1711.05101)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import getitem
from typing import TYPE_CHECKING

from pydantic import Field

from src.optimizers.base import OptimizerSettings
from src.optimizers.schedule import Shape, factor

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class AdamW(OptimizerSettings):
    """AdamW with a learning-rate schedule: linear warm-up, then ``schedule`` down to ``final`` x lr."""

    lr: float = Field(gt=0, le=1)
    betas: Sequence[float] = Field((0.9, 0.99), min_length=2, max_length=2)
    weight_decay: float = Field(0.0, ge=0)
    eps: float = Field(1e-8, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)  # share of the steps
    schedule: Shape = "cosine"
    final: float = Field(0.0, ge=0, le=1)  # share of lr
    steps: int | None = Field(None, ge=1)  # length of the schedule; None takes the run's steps

    def check(self) -> Iterable[str]:
        if not all(0 <= beta < 1 for beta in self.betas):
            yield f"optimizer.betas={list(self.betas)} must be two numbers in [0, 1)"

    def factor(self, step: int, steps: int) -> float:
        """Learning rate of a step (0-based) as a share of ``lr``."""
        return factor(step, steps, self.warmup, self.schedule, self.final)

    def build(self, parameters: Iterable[Parameter], steps: int, iterations: int = 1) -> tuple[Optimizer, LRScheduler]:
        from torch.optim.lr_scheduler import LambdaLR

        optimizer = self._kind()(
            list(parameters),
            self.lr,
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
        horizon = (self.steps or steps) * iterations
        factors = [self.factor(step, horizon) for step in range(steps * iterations + 1)]
        rate: Callable[[int], float] = partial(getitem, factors)  # type: ignore[assignment]
        return optimizer, LambdaLR(optimizer, rate)

    def _kind(self) -> Callable[..., Optimizer]:
        import torch

        return torch.optim.AdamW
