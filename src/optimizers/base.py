"""Abstract base class of the optimizer settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from src.settings import Section

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class OptimizerSettings(Section, ABC):
    """An optimizer with its learning-rate schedule."""

    moment_bytes: ClassVar[int | None] = None  # bytes per moment and parameter; None: the size of the parameter

    @abstractmethod
    def build(self, parameters: Iterable[Parameter], steps: int, iterations: int = 1) -> tuple[Optimizer, LRScheduler]:
        """The optimizer and its learning-rate schedule for ``steps`` steps of ``iterations`` optimizer steps each."""
