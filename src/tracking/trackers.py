"""Where numbers go while a run lasts: ``metrics.jsonl`` always, W&B when asked for. The only door to wandb."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from src.types import Rollout, Scores
from src.utils.files import write_text

SHOWN_TURNS = 24
"""Turns of a step that go into the tracker's table; all of them are in the run's ``rollouts`` folder."""


class Tracker(Protocol):
    """A place to watch a run from."""

    def start(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> str | None:
        """Open the run, or the one named ``id`` again; returns its id."""
        ...

    def log(self, metrics: Mapping[str, Any]) -> None: ...

    def rollouts(self, step: int, rollouts: Sequence[Rollout], scores: Sequence[Scores]) -> None: ...

    def finish(self, summary: Mapping[str, Any]) -> None: ...


@dataclass
class NoTracker:
    """Nothing but the files of the run directory."""

    def start(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> str | None:
        return id

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Nothing to do."""

    def rollouts(self, step: int, rollouts: Sequence[Rollout], scores: Sequence[Scores]) -> None:
        """Nothing to do."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing to do."""


@dataclass
class WandbTracker:
    """Weights & Biases. Offline unless told otherwise: no account, no prompt, no network; ``wandb sync`` uploads
    later."""

    project: str = "motif"
    mode: Literal["offline", "online"] = "offline"
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)

    def start(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> str | None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            name=self.name,
            tags=list(self.tags),
            mode=self.mode,
            dir=str(run),
            id=id,
            resume="allow" if id else None,
            config={**config, "choices": dict(choices)},
            settings=wandb.Settings(console="off", disable_git=True),
        )
        self._run.define_metric("*", step_metric="step")
        self._table: list[list[Any]] = []
        return str(self._run.id)

    def log(self, metrics: Mapping[str, Any]) -> None:
        self._run.log(dict(metrics))

    def rollouts(self, step: int, rollouts: Sequence[Rollout], scores: Sequence[Scores]) -> None:
        columns = ["step", "problem", "question", "path", "carried", "text", "status", "value", "correct"]
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
        self._run.log({"step": step, "rollouts": self._wandb.Table(columns=columns, data=list(self._table))})

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish()


class MetricsFile:
    """``metrics.jsonl``: one flat object a step, appended and flushed."""

    def __init__(self, path: Path, after: int) -> None:
        """Open for appending; lines past step ``after`` (written by a run that was killed) are dropped."""
        self.path = path
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                if json.loads(line)["step"] <= after:
                    kept.append(line + "\n")
            except json.JSONDecodeError:
                break  # the half-written last line of a killed run
        write_text(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def log(self, metrics: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(dict(metrics), allow_nan=False) + "\n")
        self._file.flush()

    def last(self) -> dict[str, Any]:
        """The newest line; empty when there is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return dict(json.loads(lines[-1])) if lines else {}

    def close(self) -> None:
        self._file.close()
