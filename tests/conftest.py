"""Shared fixtures: quiet, offline, and one small run that several tests read."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest

from src import config as configuration
from src.train import train

SMALL = ["debug=smoke", "tracking=none", "train.threads=1", "evaluation.limit=4"]
"""Overrides of a run of seconds."""


def run_small(folder: Path, *overrides: str) -> Path:
    """Train in this process, as the command line would, into ``folder``."""
    from omegaconf import OmegaConf

    config = configuration.checked("train", [*SMALL, *overrides])
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    OmegaConf.save({"hydra": {"runtime": {"choices": {}}}}, folder / ".hydra" / "hydra.yaml")
    train(config, folder, {})
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small(tmp_path_factory.mktemp("runs") / "small", "train.steps=4", "seed=0")
