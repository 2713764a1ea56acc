"""The supervised training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Rows = TypeVar("Rows")


def supervise(
    batches: Iterable[Rows],
    losses: Callable[[Rows], Iterable[Tensor]],
    optimizer: Optimizer,
    schedule: LRScheduler,
    max_grad_norm: float,
) -> Iterator[dict[str, float]]:
    """Take one optimizer step per batch, and yield its loss, gradient norm and learning rate.

    ``losses`` gives the loss of a batch as a sum of parts, one per micro-batch.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for rows in batches:
        optimizer.zero_grad()
        loss = 0.0
        for part in losses(rows):
            torch.autograd.backward(part)
            loss += float(part.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
        rate = float(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        yield {"loss": loss, "grad_norm": norm, "lr": rate}
