"""Number of source files that one training step executes: ``python -m tests.integration.test_one_step`` lists them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from src.config import ROOT, compose
from src.run import build_run
from src.tracking.base import Tracker
from src.train import restored
from src.training.metrics_file import MetricsFile
from src.training.trainer import Trainer
from src.utils.signals import StopRequest

MOST = 25
SETTINGS = ["debug=smoke", "train.problems=1", "train.rollouts_every=100", "tracking=none", "train.threads=1"]


def entered(action: Callable[[], Any]) -> list[str]:
    """List the files of the project whose functions ``action`` calls."""
    files: set[str] = set()
    here = str(ROOT / "src")

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(here):
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return sorted(str(Path(file).relative_to(ROOT)) for file in files)


def files_of_a_step(folder: Path, *overrides: str) -> list[str]:
    """List the files that the second step of the main job executes, with one problem."""
    run = build_run(compose("train", [*SETTINGS, *overrides]), folder)
    learner, state = restored(run, None)
    with MetricsFile(folder / "metrics.jsonl", 0) as metrics:
        trainer = Trainer(run, learner, state, metrics, Tracker(), StopRequest(), lambda line: None)
        trainer.step(0)
        return entered(lambda: trainer.step(1))


@pytest.mark.parametrize("overrides", [[], ["engine.native=false"]], ids=["default", "without compiled code"])
def test_a_training_step_executes_few_files(tmp_path: Path, overrides: list[str]) -> None:
    files = files_of_a_step(tmp_path, *overrides)
    assert len(files) <= MOST, files
    assert {"src/training/trainer.py", "src/rounds/growing.py", "src/training/learner.py"} <= set(files)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = files_of_a_step(Path(place), *sys.argv[1:])
    sys.stdout.write("\n".join([*found, f"{len(found)} files"]) + "\n")
