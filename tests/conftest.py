"""Shared fixtures: offline environment, and one small run that several tests read."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of several tests at once would wait for each other

import logging
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from src.config import compose
from src.train import train

hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("random")
hypothesis.settings.load_profile("same")  # a change is judged on the same examples as the one before it


@pytest.fixture(autouse=True)
def no_log_handlers_left() -> Iterator[None]:
    """Remove the handlers that Hydra added during a test: their streams are closed with it."""
    before = list(logging.root.handlers)
    yield
    for handler in [one for one in logging.root.handlers if one not in before and type(one).__module__ == "logging"]:
        logging.root.removeHandler(handler)


SMALL = ["debug=smoke", "tracking=none", "train.threads=1", "evaluation.limit=4"]
"""Overrides of a run that takes seconds."""


def run_small(folder: Path, *overrides: str) -> Path:
    """Train into ``folder`` in this process, with the settings that the command line would compose."""
    train(compose("train", [*SMALL, *overrides]), folder)
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small(tmp_path_factory.mktemp("runs") / "small", "train.steps=4", "seed=0")
