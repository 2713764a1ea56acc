"""The typed configuration of every command. Importing it loads neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from src.algorithms.base import Algorithm
from src.benchmarks.base import Benchmark
from src.credit.base import CreditRule
from src.engines.base import EngineSettings
from src.evaluation.settings import Evaluation
from src.models.settings import ModelSettings
from src.optimizers.base import OptimizerSettings
from src.rewards.base import Reward
from src.rounds.base import Strategy
from src.rounds.prompts import Prompts
from src.settings import Section
from src.sft.demonstrations import Demonstrations
from src.sft.settings import Imitation, Pretraining
from src.speed.settings import Measuring
from src.tracking.base import TrackerSettings
from src.training.settings import Checkpoint, Train
from src.verifiers.base import Verifier

LARGEST_SEED = 2**63 - 1


class RunSettings(Section):
    """The sections that describe a run. A command has some of them; the others are ``None``."""

    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    model: ModelSettings | None = None
    rounds: Strategy | None = None
    benchmark: Benchmark | None = None
    verifier: Verifier | None = None
    engine: EngineSettings | None = None
    reward: Reward | None = None
    credit: CreditRule | None = None
    algorithm: Algorithm | None = None
    optimizer: OptimizerSettings | None = None
    tracking: TrackerSettings | None = None
    train: Train | None = None
    evaluation: Evaluation | None = None
    imitation: Imitation | None = None
    measuring: Measuring | None = None


class TrainCommand(RunSettings):
    """``python -m src.train``"""

    seed: int = Field(ge=0, le=LARGEST_SEED)
    model: ModelSettings
    rounds: Strategy
    benchmark: Benchmark
    verifier: Verifier
    engine: EngineSettings
    reward: Reward
    credit: CreditRule
    algorithm: Algorithm
    optimizer: OptimizerSettings
    tracking: TrackerSettings
    train: Train
    evaluation: Evaluation
    checkpoint: Checkpoint


class EvaluateCommand(RunSettings):
    """``python -m src.evaluate``"""

    run: str | None = None
    checkpoint: str | int | None = None
    threads: int = Field(0, ge=0)
    model: ModelSettings
    rounds: Strategy
    benchmark: Benchmark
    verifier: Verifier
    engine: EngineSettings
    evaluation: Evaluation


class SolveCommand(RunSettings):
    """``python -m src.solve``"""

    question: str
    run: str | None = None
    checkpoint: str | int | None = None
    threads: int = Field(0, ge=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    model: ModelSettings
    rounds: Strategy
    engine: EngineSettings


class WarmupCommand(RunSettings):
    """``python -m src.warmup``"""

    threads: int = Field(0, ge=0)
    model: ModelSettings
    rounds: Strategy
    benchmark: Benchmark
    optimizer: OptimizerSettings
    imitation: Imitation


class SpeedCommand(RunSettings):
    """``python -m src.speed``"""

    measure: Sequence[str]
    threads: int = Field(0, ge=0)
    model: ModelSettings
    rounds: Strategy
    benchmark: Benchmark
    verifier: Verifier
    engine: EngineSettings
    reward: Reward
    credit: CreditRule
    algorithm: Algorithm
    optimizer: OptimizerSettings
    measuring: Measuring


class ExportCommand(Section):
    """``python -m src.export``"""

    run: str
    out: str
    what: Literal["merged", "adapter"] = "merged"
    checkpoint: str | int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


class ReportCommand(Section):
    """``python -m src.report``"""

    runs: str | Sequence[str]
    out: str = "report"
    steps: int = Field(8, ge=1)
    trees: int = Field(2, ge=1)


class PretrainCommand(RunSettings):
    """``python -m src.pretrain``"""

    out: str
    threads: int = Field(1, ge=0)
    prompts: Prompts
    benchmark: Benchmark
    architecture: Mapping[str, Any]
    demonstrations: Demonstrations
    training: Pretraining


COMMANDS: dict[str, type[Section]] = {
    "train": TrainCommand,
    "evaluate": EvaluateCommand,
    "solve": SolveCommand,
    "warmup": WarmupCommand,
    "speed": SpeedCommand,
    "export": ExportCommand,
    "report": ReportCommand,
    "pretrain": PretrainCommand,
}
