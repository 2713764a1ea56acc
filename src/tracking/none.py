"""No experiment tracker: only the files of the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.tracking.base import Tracker, TrackerSettings


class NoTracker(TrackerSettings):
    """No tracker. Metrics, rollouts and evaluations are only in the files that every run writes."""

    def open(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> Tracker:
        tracker = Tracker()
        tracker.id = id
        return tracker
