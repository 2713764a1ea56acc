"""The sections that are plain settings, as dataclasses: the loop, evaluation, and where the others live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainConfig:
    """The loop; each field is explained in conf/train.yaml."""

    steps: int
    problems: int
    micro_batch_tokens: int
    max_grad_norm: float
    rollouts_every: int
    threads: int

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        names = ("steps", "problems", "micro_batch_tokens", "rollouts_every")
        errors = [f"train.{name}={getattr(self, name)} must be 1 or more" for name in names if getattr(self, name) < 1]
        if self.max_grad_norm <= 0:
            errors.append(f"train.max_grad_norm={self.max_grad_norm} must be above 0")
        if self.threads < 0:
            errors.append(f"train.threads={self.threads} must be 0 (torch decides) or more")
        return errors


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how answers are sampled; see conf/train.yaml."""

    rounds: Sequence[int]
    samples: int
    temperature: float
    top_p: float
    limit: int | None = None
    every: int = 0
    keep_best: bool = False
    before: bool = True

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if not self.rounds or min(self.rounds) < 1:
            errors.append(f"evaluation.rounds={list(self.rounds)} must name numbers of rounds, all 1 or more")
        if self.samples < 1:
            errors.append(f"evaluation.samples={self.samples} must be 1 or more")
        if self.temperature < 0:
            errors.append(f"evaluation.temperature={self.temperature} must be 0 (greedy) or more")
        if self.temperature == 0 and self.samples > 1:
            errors.append(
                f"evaluation.temperature=0 is greedy, so evaluation.samples={self.samples} would all be equal; "
                "use evaluation.samples=1"
            )
        if not 0 < self.top_p <= 1:
            errors.append(f"evaluation.top_p={self.top_p} must be in (0, 1]")
        if self.limit is not None and self.limit < 1:
            errors.append(f"evaluation.limit={self.limit} must be null (all problems) or 1 or more")
        if self.every < 0:
            errors.append(f"evaluation.every={self.every} must be 0 (never) or more")
        if self.keep_best and self.every == 0:
            errors.append(
                "evaluation.keep_best=true chooses by validation accuracy, but evaluation.every=0 never looks"
            )
        return errors


def section(name: str) -> Any:
    """The dataclass of a section without a ``_target_``."""
    from src.checkpoint import CheckpointConfig
    from src.models import ModelConfig

    return {
        "train": TrainConfig,
        "evaluation": EvaluationConfig,
        "checkpoint": CheckpointConfig,
        "model": ModelConfig,
    }.get(name)
