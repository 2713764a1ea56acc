"""The contract of an optimizer section."""

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

    moment_bytes: ClassVar[int | None] = None  # of each moment of a parameter; None is the parameter's own size

    @abstractmethod
    def build(self, parameters: Iterable[Parameter], steps: int, iterations: int = 1) -> tuple[Optimizer, LRScheduler]:
        """The optimizer and its learning-rate schedule for ``steps`` steps of ``iterations`` optimizer steps each."""
