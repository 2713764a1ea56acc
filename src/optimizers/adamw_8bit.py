"""AdamW with 8-bit moments (arXiv 2110.02861), from bitsandbytes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from src.optimizers.adamw import AdamW
from src.settings import RunSettings

if TYPE_CHECKING:
    from torch.optim import Optimizer


class AdamW8bit(AdamW):
    """AdamW with 8-bit moments for tensors of 4,096 parameters or more."""

    moment_bytes: ClassVar[int | None] = 1

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if importlib.util.find_spec("bitsandbytes") is None:
            yield (
                "optimizer=adamw-8bit needs the package bitsandbytes, which is not installed: "
                "`pip install bitsandbytes`, or use optimizer=adamw"
            )

    def _kind(self) -> Callable[..., Optimizer]:
        from bitsandbytes.optim.adamw import AdamW8bit as Optimizer

        kind: Callable[..., Optimizer] = Optimizer
        return kind
