"""Several trackers of one run: ``tracking=[wandb,tensorboard]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.tracking.base import Tracker, TrackerSettings


class Several(TrackerSettings):
    """Several trackers, by the names of their options."""

    trackers: Mapping[str, TrackerSettings]

    def open(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> Tracker:
        return SeveralTrackers([one.open(run, config, choices, id) for one in self.trackers.values()])


class SeveralTrackers(Tracker):
    """Tracker that hands everything to several others."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers
        self.id = next((one.id for one in trackers if one.id is not None), None)

    def log(self, metrics: Mapping[str, Any]) -> None:
        for one in self.trackers:
            one.log(metrics)

    def rollouts(self, step: int, trees: Sequence[Mapping[str, Any]]) -> None:
        for one in self.trackers:
            one.rollouts(step, trees)

    def summarize(self, summary: Mapping[str, Any]) -> None:
        for one in self.trackers:
            one.summarize(summary)

    def close(self, exit_code: int) -> None:
        for one in self.trackers:
            one.close(exit_code)
