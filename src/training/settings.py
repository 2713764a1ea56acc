"""Settings of the training loop and of its checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from src.settings import Section

if TYPE_CHECKING:
    from src.config.commands import RunSettings


class Train(Section):
    """The loop; each field is explained in conf/train.yaml."""

    steps: int = Field(ge=1)
    problems: int = Field(ge=1)
    micro_batch_tokens: int = Field(ge=1)
    max_grad_norm: float = Field(gt=0)
    sampler_tolerance: float = Field(ge=0)
    rollouts_every: int = Field(ge=1)
    threads: int = Field(0, ge=0)
    profile: int = 0

    def check(self) -> Iterable[str]:
        if not 0 <= self.profile <= self.steps:
            yield f"train.profile={self.profile} must be 0 (none), or a step up to train.steps={self.steps}"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.benchmark is None:
            return
        if not run.benchmark.trains:
            yield (
                f"benchmark={run.benchmark.name} has nothing to train on (benchmark.train is null); choose another, or "
                "add e.g. +benchmark/table@benchmark.train=gsm8k-train"
            )
        available = run.benchmark.train_size
        if available is not None and available < self.problems:
            yield (
                f"train.problems={self.problems} asks for more problems a step than the {available} there are "
                "(benchmark.train_size); lower the first or raise the second"
            )


class Checkpoint(Section):
    """How often to save and how many to keep."""

    every: int = Field(10, ge=1)  # steps
    keep: int = Field(2, ge=0)  # newest checkpoints; 0 keeps all
