"""Weights & Biases tracker. The only module that imports wandb."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from src.tracking.base import Tracker, TrackerSettings
from src.types import Rollout, Scores

SHOWN_TURNS = 24
"""Number of turns per step in W&B's table; the run's ``rollouts`` folder has all of them."""

COLUMNS = ["step", "problem", "question", "path", "carried", "text", "status", "value", "correct"]


class Wandb(TrackerSettings):
    """Weights & Biases, offline by default: no account and no network; upload later with ``wandb sync``."""

    project: str = "motif"
    mode: Literal["offline", "online"] = "offline"
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()

    def open(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> Tracker:
        return WandbTracker(self, run, {**config, "choices": dict(choices)}, id)


class WandbTracker(Tracker):
    """Tracker that records into one W&B run."""

    def __init__(self, settings: Wandb, run: Path, config: Mapping[str, Any], id: str | None) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            group=settings.group,
            name=settings.name,
            tags=list(settings.tags),
            mode=settings.mode,
            dir=str(run),
            id=id,
            resume="allow" if id else None,
            config=dict(config),
            settings=wandb.Settings(console="off", disable_git=True),
        )
        self._run.define_metric("*", step_metric="step")
        self._table: list[list[Any]] = []
        self.id = str(self._run.id)

    def log(self, metrics: Mapping[str, Any]) -> None:
        self._run.log(dict(metrics))

    def rollouts(self, step: int, rollouts: Sequence[Rollout], scores: Sequence[Scores]) -> None:
        self._table += [
            [
                step,
                rollout.problem.id,
                rollout.problem.question,
                "/".join(map(str, turn.path)),
                turn.carried,
                turn.text,
                str(turn.status),
                score.values.get(turn.path),
                score.correct.get(turn.path),
            ]
            for rollout, score in list(zip(rollouts, scores, strict=True))[:1]
            for turn in rollout.turns[:SHOWN_TURNS]
        ]
        self._run.log({"step": step, "rollouts": self._wandb.Table(columns=COLUMNS, data=list(self._table))})

    def summarize(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))

    def close(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)
