"""Names of metrics in a tracker: the keys of ``metrics.jsonl``, sorted into train/, rollout/ and eval/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.utils.files import read_jsonl

ROLLOUT = (
    "reward",
    "accuracy",
    "advantage/",
    "completion/",
    "tokens/generated",
    "tokens_per_second",
    "time/rollout",
    "time/reward",
    "verifier_failures",
    "dropped_problems",
)
"""Beginnings of the keys that describe the rollouts of a step; those that describe the update are train/."""

COUNTERS = ("step", "problems", "tokens")
"""Names of the counters: optimizer steps, problems and generated tokens so far. Metrics are plotted against them."""


class Counting:
    """Counts generated tokens over a whole run, also over the part before a resume."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.tokens: int | None = None

    def named(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return a step's metrics under their names in a tracker, with the three counters."""
        if self.tokens is None:
            self.tokens = self._before(metrics.get("step", 1))
        self.tokens += metrics.get("tokens/generated", 0)
        counters = {"step": metrics.get("step"), "problems": metrics.get("problems_seen"), "tokens": self.tokens}
        others = {name(key): value for key, value in metrics.items() if key not in ("step", "problems_seen")}
        return {key: value for key, value in {**counters, **others}.items() if value is not None}

    def _before(self, step: int) -> int:
        file = self.run / "metrics.jsonl"
        try:
            lines = list(read_jsonl(file)) if file.is_file() else []
        except json.JSONDecodeError:  # a last line that was cut; the trainer says so and mends the file
            return 0
        return sum(line.get("tokens/generated", 0) for line in lines if line["step"] < step)


def name(key: str) -> str:
    """The name of a metric in a tracker: ``train/loss``, ``rollout/reward``, ``eval/validation/accuracy``."""
    if key.startswith("validation/"):
        return f"eval/{key}"
    return f"rollout/{key}" if key.startswith(ROLLOUT) else f"train/{key}"


def results(summary: Mapping[str, Any]) -> dict[str, float]:
    """The test accuracies of a finished run, base and trained: ``eval/trained/<benchmark>/<split>/rounds<n>``."""
    found = summary.get("evaluations", {})
    return {
        f"eval/{title}/{one['benchmark']}/{one['split']}/rounds{one['rounds']}": one["accuracy"]
        for part, title in (("before", "base"), ("after", "trained"))
        for one in found.get(part, [])
    }


def default_name(run: Path, choices: Mapping[str, str], seed: Any) -> str:
    """Name of a run: of a sweep's job that of its directory, of another its main choices and its seed."""
    if sweep_of(run) is not None:
        return run.resolve().name[:128]
    shown = [f"{group}-{choices[group]}" for group in ("rounds", "reward", "credit", "algorithm") if group in choices]
    return "_".join([*shown, f"seed-{seed}"])


def sweep_of(run: Path) -> Path | None:
    """The directory of the sweep that a run is a job of."""
    return next((folder for folder in run.resolve().parents[:2] if (folder / "sweep.json").is_file()), None)
