"""TensorBoard tracker. The only module that uses tensorboard."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.settings import RunSettings
from src.tracking.base import Tracker, TrackerSettings
from src.tracking.names import Counting, results


class TensorBoard(TrackerSettings):
    """TensorBoard, in the folder ``tensorboard`` of the run directory: ``tensorboard --logdir outputs``."""

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if importlib.util.find_spec("tensorboard") is None:
            yield "tracking=tensorboard: tensorboard is not installed; pip install 'motif-lab[tensorboard]'"

    def open(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> Tracker:
        return TensorBoardTracker(run, {**config, "choices": dict(choices)}, id)


class TensorBoardTracker(Tracker):
    """Tracker that writes TensorBoard's event files; the horizontal axis is the step."""

    def __init__(self, run: Path, config: Mapping[str, Any], id: str | None) -> None:
        self._folder, self._config, self._counting = run / "tensorboard", config, Counting(run)
        self._writer: Any = None
        self.id = id

    def _at(self, step: int) -> Any:
        """The writer. It is opened at the first step, and removes what a killed process wrote of later steps."""
        if self._writer is None:
            writers: Any = importlib.import_module("torch.utils.tensorboard")
            self._writer = writers.SummaryWriter(str(self._folder), purge_step=step)
            text = json.dumps(self._config, indent=2, default=str)
            self._writer.add_text("config", f"```\n{text}\n```", step)
        return self._writer

    def log(self, metrics: Mapping[str, Any]) -> None:
        step = int(metrics["step"])
        for name, value in self._counting.named(metrics).items():
            if isinstance(value, (int, float)):
                self._at(step).add_scalar(name, value, step)

    def rollouts(self, step: int, trees: Sequence[Mapping[str, Any]]) -> None:
        for tree in trees[:1]:  # all are in rollouts/
            text = json.dumps(tree, indent=2, ensure_ascii=False)
            self._at(step).add_text("rollout/tree", f"```\n{text}\n```", step)

    def summarize(self, summary: Mapping[str, Any]) -> None:
        step = int(summary["final"]["step"])
        for name, value in results(summary).items():
            self._at(step).add_scalar(name, value, step)

    def close(self, exit_code: int) -> None:
        if self._writer is not None:
            self._writer.close()
