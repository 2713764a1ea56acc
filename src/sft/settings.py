"""Settings of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from src.settings import Section

if TYPE_CHECKING:
    from src.config.commands import RunSettings


class Imitation(Section):
    """The supervised loop; each field is explained in conf/warmup.yaml."""

    steps: int = Field(ge=1)
    turns: int = Field(ge=1)
    micro_batch_tokens: int = Field(ge=1)
    max_grad_norm: float = Field(gt=0)
    validate_every: int = Field(ge=1)
    validation_problems: int = Field(ge=1)

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.benchmark is None:
            return
        if run.benchmark.validation_size == 0:
            yield (
                f"imitation.validation_problems={self.validation_problems} looks at the validation split, and "
                "benchmark.validation_size=0 leaves none"
            )
        if not run.benchmark.trains:
            yield f"benchmark={run.benchmark.name} has nothing to train on (benchmark.train is null)"


class Pretraining(Section):
    """The supervised training of the embedded model; each field is explained in conf/pretrain.yaml."""

    steps: int = Field(ge=1)
    rows: int = Field(ge=1)
    lr: float = Field(gt=0)
    betas: Sequence[float] = Field(min_length=2, max_length=2)
    weight_decay: float = Field(ge=0)
    warmup: int = Field(ge=1)
    decay: float = Field(gt=0, le=1)
    longest_tail: int = Field(ge=8)
    ramp: float = Field(gt=0, le=1)
