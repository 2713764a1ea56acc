"""Which dataclass describes each section that has no ``_target_`` of its own."""

from __future__ import annotations

from typing import Any


def section(name: str) -> Any:
    """The dataclass of a section without a ``_target_``."""
    from src.evaluation.sampling import EvaluationConfig
    from src.models.loading import ModelConfig
    from src.sft.imitation import ImitationConfig
    from src.training.checkpoint import CheckpointConfig
    from src.training.trainer import TrainConfig

    return {
        "train": TrainConfig,
        "evaluation": EvaluationConfig,
        "checkpoint": CheckpointConfig,
        "model": ModelConfig,
        "imitation": ImitationConfig,
    }.get(name)
