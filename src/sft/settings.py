"""Settings of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from src.benchmarks.base import Benchmark
from src.models.settings import ModelSettings
from src.optimizers.base import OptimizerSettings
from src.rounds.base import Strategy
from src.rounds.prompts import Prompts
from src.settings import RunSettings, Section
from src.sft.demonstrations import Demonstrations
from src.sft.solutions import Progress


class Imitation(Section):
    """Settings of the supervised warm-up. conf/warmup.yaml explains each field."""

    steps: int = Field(ge=1)
    turns: int = Field(ge=1)
    micro_batch_tokens: int = Field(ge=1)
    max_grad_norm: float = Field(gt=0)
    validate_every: int = Field(ge=1)
    validation_problems: int = Field(ge=1)
    progress: Progress = "steps"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.benchmark is None:
            return
        if run.benchmark.validation_size == 0:
            yield (
                f"imitation.validation_problems={self.validation_problems} needs a validation split, but "
                "benchmark.validation_size=0; use 1 or more"
            )
        if not run.benchmark.trains:
            yield f"benchmark={run.benchmark.name} has no training problems (benchmark.train is null)"


class Pretraining(Section):
    """Settings of the embedded model's pretraining. conf/pretrain.yaml explains each field."""

    steps: int = Field(ge=1)
    rows: int = Field(ge=1)
    lr: float = Field(gt=0)
    betas: Sequence[float] = Field(min_length=2, max_length=2)
    weight_decay: float = Field(ge=0)
    warmup: int = Field(ge=1)
    decay: float = Field(gt=0, le=1)
    longest_tail: int = Field(ge=8)
    ramp: float = Field(gt=0, le=1)


class WarmupCommand(RunSettings):
    """Settings of ``python -m src.warmup``."""

    threads: int = Field(0, ge=0)
    model: ModelSettings
    rounds: Strategy
    benchmark: Benchmark
    optimizer: OptimizerSettings
    imitation: Imitation


class PretrainCommand(RunSettings):
    """Settings of ``python -m src.pretrain``."""

    out: str
    threads: int = Field(1, ge=0)
    prompts: Prompts
    benchmark: Benchmark
    architecture: Mapping[str, Any]
    demonstrations: Demonstrations
    training: Pretraining
