"""Weights & Biases tracker. The only module that imports wandb."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from src.settings import RunSettings
from src.tracking.base import Tracker, TrackerSettings
from src.types import Rollout, Scores

logger = logging.getLogger(__name__)

INIT_SECONDS = 10
"""Time limit for reaching W&B, after which a run is recorded offline."""

SHOWN_TURNS = 24
"""Number of turns per step in W&B's table; the run's ``rollouts`` folder has all of them."""

COLUMNS = ["step", "problem", "question", "path", "carried", "text", "status", "value", "correct"]


Mode = Literal["offline", "online", "disabled"]


class Wandb(TrackerSettings):
    """Weights & Biases, offline by default: no account and no network; upload later with ``wandb sync``."""

    project: str | None = None
    mode: Mode | None = None
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()

    @property
    def used_mode(self) -> Any:
        """The mode, from W&B's environment variables if ``mode`` is null."""
        if self.mode is None and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true"):
            return "disabled"
        return self.mode or os.environ.get("WANDB_MODE") or "offline"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if self.used_mode not in get_args(Mode):
            yield f"WANDB_MODE={self.used_mode}: valid: {', '.join(get_args(Mode))}"

    def open(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> Tracker:
        return WandbTracker(self, run, {**config, "choices": dict(choices)}, id)


def _logged_in() -> bool:
    """Whether ``wandb login`` has stored a key on this machine."""
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].partition("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbTracker(Tracker):
    """Tracker that records into one W&B run. If W&B cannot be reached, it records offline and says so."""

    def __init__(self, settings: Wandb, run: Path, config: Mapping[str, Any], id: str | None) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._wandb = wandb
        options = {
            "project": settings.project or os.environ.get("WANDB_PROJECT") or "motif",
            "entity": settings.entity,
            "group": settings.group,
            "name": settings.name,
            "tags": list(settings.tags) or None,
            "dir": str(run),
            "id": id,
            "resume": "allow" if id else None,
            "config": dict(config),
            "settings": wandb.Settings(console="off", disable_git=True, init_timeout=INIT_SECONDS),
        }
        mode, problem = settings.used_mode, ""
        if mode == "online" and not (os.environ.get("WANDB_API_KEY") or _logged_in()):
            problem = "tracking.mode=online needs an API key: run `wandb login`, or set WANDB_API_KEY"
        try:
            self._run = wandb.init(mode="offline" if problem else mode, **options)
        except wandb.errors.Error as error:
            if mode != "online" or problem:
                raise
            problem = f"W&B cannot be reached ({str(error).splitlines()[0]})"
            self._run = wandb.init(mode="offline", **options)
        if problem:
            logger.warning("%s; this run is recorded offline: upload it with `wandb sync`", problem)
        self._run.define_metric("*", step_metric="step")
        self._table: list[list[Any]] = []
        self.id = str(self._run.id)

    def log(self, metrics: Mapping[str, Any]) -> None:
        self._run.log(dict(metrics), step=metrics.get("step"))

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
        table = self._wandb.Table(columns=COLUMNS, data=list(self._table))
        self._run.log({"step": step, "rollouts": table}, step=step)

    def summarize(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))

    def close(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)
