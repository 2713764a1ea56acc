"""Optimizers and their learning-rate schedule."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class AdamW:
    """Decoupled weight decay (arXiv 1711.05101), linear warm-up, then ``schedule`` down to ``final`` x lr."""

    moment_bytes: ClassVar[int | None] = None  # of each moment of a parameter; None is the parameter's own size
    lr: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    eps: float = 1e-8
    warmup: float = 0.1  # share of the steps
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final: float = 0.0

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if not self.lr > 0:
            errors.append(f"optimizer.lr={self.lr} must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            errors.append(f"optimizer.betas={list(self.betas)} must be two numbers in [0, 1)")
        if self.weight_decay < 0:
            errors.append(f"optimizer.weight_decay={self.weight_decay} must be 0 or more")
        if not 0 <= self.warmup < 1:
            errors.append(f"optimizer.warmup={self.warmup} is a share of the steps and must be in [0, 1)")
        if self.eps < 0:
            errors.append(f"optimizer.eps={self.eps} must be 0 or more")
        if not 0 <= self.final <= 1:
            errors.append(f"optimizer.final={self.final} is a share of optimizer.lr and must be in [0, 1]")
        return errors

    def factor(self, step: int, steps: int) -> float:
        """The learning rate of a step (0-based) as a share of ``lr``."""
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / warm
        progress = min(1.0, (step - warm) / max(1, steps - warm))
        shape = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
        return self.final + (1 - self.final) * shape[self.schedule]

    def build(self, parameters: Iterable[Parameter], steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """The optimizer and its schedule over ``steps`` optimizer steps."""
        optimizer = self._kind()(
            list(parameters),
            self.lr,
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
        return optimizer, LambdaLR(optimizer, lambda step: self.factor(step, steps))

    def _kind(self) -> Callable[..., torch.optim.Optimizer]:
        return torch.optim.AdamW


@dataclass(frozen=True)
class AdamW8bit(AdamW):
    """AdamW whose moments take 8 bits each (arXiv 2110.02861), in tensors of 4,096 parameters or more."""

    moment_bytes: ClassVar[int | None] = 1

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        if importlib.util.find_spec("bitsandbytes") is not None:
            return super().check()
        missing = (
            "optimizer=adamw-8bit needs the package bitsandbytes, which is not installed: `pip install bitsandbytes`"
        )
        return [*super().check(), f"{missing}, or optimizer=adamw"]

    def _kind(self) -> Callable[..., torch.optim.Optimizer]:
        from bitsandbytes.optim.adamw import AdamW8bit as Optimizer

        kind: Callable[..., torch.optim.Optimizer] = Optimizer
        return kind
