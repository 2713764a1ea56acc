"""Weights & Biases tracker. The only module that imports wandb."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from src.settings import RunSettings
from src.tracking.base import Tracker, TrackerSettings
from src.tracking.names import COUNTERS, Counting, default_name, results, sweep_of
from src.verifiers.tags import stated_answer

logger = logging.getLogger(__name__)

INIT_SECONDS = 10
"""Time limit for reaching W&B, after which a run is recorded offline."""

FINISH_SECONDS = 30
"""Time limit for uploading what is left at the end of a run; it can be uploaded later with ``wandb sync``."""

TURN = ("path", "round", "status", "carried", "text", "value", "correct", "advantage", "tokens")
"""Columns of the rollout table that are entries of a turn in ``rollouts/step_*.jsonl``."""

Mode = Literal["offline", "online", "disabled"]


class Wandb(TrackerSettings):
    """Weights & Biases, offline by default: no account and no network; upload later with ``wandb sync``."""

    project: str | None = None
    mode: Mode | None = None
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    artifacts: bool = False

    @property
    def used_mode(self) -> Any:
        """The mode, from W&B's environment variables if ``mode`` is null."""
        if self.mode is None and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "t", "yes", "y", "on"):
            return "disabled"
        return self.mode or os.environ.get("WANDB_MODE") or "offline"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if self.used_mode not in get_args(Mode):
            yield f"WANDB_MODE={self.used_mode}: valid: {', '.join(get_args(Mode))}"

    def open(self, run: Path, config: Mapping[str, Any], choices: Mapping[str, str], id: str | None) -> Tracker:
        return WandbTracker(self, run, {**config, "choices": dict(choices)}, id)

    def described_run(self, run: Path, config: Mapping[str, Any]) -> dict[str, Any]:
        """What names and sorts a run: each from its setting, else W&B's variable, else a default."""
        variables, sweep = os.environ, sweep_of(run)
        group = f"{sweep.parent.name}/{sweep.name}" if sweep is not None else None
        given = [one for one in variables.get("WANDB_TAGS", "").split(",") if one]
        name = default_name(run, config.get("choices", {}), config.get("seed", 0))
        return {
            "project": self.project or variables.get("WANDB_PROJECT") or "motif",
            "entity": self.entity,
            "group": self.group or variables.get("WANDB_RUN_GROUP") or group,
            "job_type": self.job_type or variables.get("WANDB_JOB_TYPE") or "train",
            "name": self.name or variables.get("WANDB_NAME") or name,
            "tags": list(self.tags) or given or None,
            "dir": variables.get("WANDB_DIR") or str(run),
        }


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

        self._wandb, self._settings, self._folder, self._counting = wandb, settings, run, Counting(run)
        self._broken = False
        options = {
            **settings.described_run(run, config),
            "id": id,
            "resume": "allow" if id else None,
            "config": dict(config),
            "settings": wandb.Settings(
                console="off", disable_git=True, init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
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
        for counter in COUNTERS:
            self._run.define_metric(counter)
        self._run.define_metric("train/*", step_metric="problems")
        self._run.define_metric("rollout/*", step_metric="problems")
        self._run.define_metric("eval/*", step_metric="tokens")  # accuracy against its cost
        self.id = str(self._run.id)

    def log(self, metrics: Mapping[str, Any]) -> None:
        named = self._counting.named(metrics)
        self._try(lambda: self._run.log(named, step=metrics.get("step")))

    def rollouts(self, step: int, trees: Sequence[Mapping[str, Any]]) -> None:
        terms = list(dict.fromkeys(name for tree in trees for turn in tree["turns"] for name in turn["scores"]))
        columns = ["step", "problem", "question", "gold", *TURN, "answer", *(f"reward/{name}" for name in terms)]
        rows = [
            [
                step,
                tree["problem"]["id"],
                tree["problem"]["question"],
                str(tree["problem"]["answer"]),
                "/".join(map(str, turn["path"])),
                *(turn[name] for name in TURN[1:]),
                stated_answer(turn["text"]),
                *(turn["scores"].get(name) for name in terms),
            ]
            for tree in trees
            for turn in tree["turns"]
        ]
        table = self._wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        self._try(lambda: self._run.log({"step": step, "rollout/trees": table}, step=step))

    def summarize(self, summary: Mapping[str, Any]) -> None:
        self._try(lambda: self._run.summary.update({**summary, **results(summary)}))
        if self._settings.artifacts:
            self._try(self._upload)

    def close(self, exit_code: int) -> None:
        self._try(lambda: self._run.finish(exit_code=exit_code))

    def _upload(self) -> None:
        """Record the reported weights (the adapter, with LoRA) as an artifact of the run."""
        artifact = self._wandb.Artifact(f"model-{self.id}", type="model")
        artifact.add_dir(str(self._folder / "model"))
        self._run.log_artifact(artifact)

    def _try(self, action: Callable[[], object]) -> None:
        """Record something. W&B's own failures do not stop a run: the first is said, and its files have everything."""
        try:
            action()
        except (self._wandb.errors.Error, OSError) as error:
            if not self._broken:
                logger.warning(
                    "W&B failed (%s: %s); the run goes on, and its own files hold everything",
                    type(error).__name__,
                    (str(error).splitlines() or [""])[0],
                )
            self._broken = True
