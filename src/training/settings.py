"""Settings of the training loop and of checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from src.algorithms.base import Algorithm
from src.credit.base import CreditRule
from src.evaluation.settings import Evaluation, SamplingSections
from src.optimizers.base import OptimizerSettings
from src.parallel.settings import Parallel
from src.rewards.base import Reward
from src.settings import LARGEST_SEED, RunSettings, Section
from src.tracking.base import TrackerSettings


class Train(Section):
    """Settings of the training loop; conf/train.yaml explains each field."""

    steps: int = Field(ge=1)
    problems: int = Field(ge=1)
    micro_batch_tokens: int = Field(ge=1)
    max_grad_norm: float = Field(gt=0)
    sampler_tolerance: float = Field(ge=0)
    rollouts_every: int = Field(ge=1)
    log_tokens: bool = False
    threads: int = Field(0, ge=0, le=1024)
    on_nonfinite: Literal["stop", "skip"] = "stop"
    max_time: float | None = Field(None, gt=0, le=525_600)
    profile: int = 0

    def check(self) -> Iterable[str]:
        if not 0 <= self.profile <= self.steps:
            yield f"train.profile={self.profile} must be 0 (none), or a step up to train.steps={self.steps}"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.benchmark is None:
            return
        if not run.benchmark.trains:
            yield (
                f"benchmark={run.benchmark.name} has nothing to train on (benchmark.train is null); choose another "
                "benchmark, or add e.g. +benchmark/table@benchmark.train=gsm8k-train"
            )
        available = run.benchmark.train_size
        if available is not None and available < self.problems:
            yield (
                f"train.problems={self.problems} takes more problems per step than benchmark.train_size={available} "
                "provides; lower the first or raise the second"
            )


class Checkpoint(Section):
    """How often checkpoints are saved and how many are kept."""

    every: int = Field(10, ge=1)  # steps between checkpoints
    keep: int = Field(2, ge=0)  # newest checkpoints; 0 keeps all


class LearningSections(SamplingSections):
    """The typed sections of every command that takes training steps."""

    reward: Reward
    credit: CreditRule
    algorithm: Algorithm
    optimizer: OptimizerSettings


class TrainCommand(LearningSections):
    """Settings of ``python -m src.train``."""

    seed: int = Field(ge=0, le=LARGEST_SEED)
    tracking: TrackerSettings
    parallel: Parallel = Parallel(replicas=None)
    train: Train
    evaluation: Evaluation
    checkpoint: Checkpoint
