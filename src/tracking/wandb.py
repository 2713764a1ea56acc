"""Weights & Biases tracker. The only module that imports wandb."""

from __future__ import annotations

import contextlib
import logging
import netrc
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from src.settings import RunSettings
from src.tracking.background import Background
from src.tracking.base import Tracker, TrackerSettings
from src.tracking.names import COUNTERS, Counting, default_name, results, sweep_of
from src.verifiers.tags import stated_answer

logger = logging.getLogger(__name__)

INIT_SECONDS = 10
"""Time limit for reaching W&B, after which a run is recorded offline."""

FINISH_SECONDS = 20
"""Time limit for uploading what is left at the end of a run; it can be uploaded later with ``wandb sync``."""

CLOSE_SECONDS = 30
"""Time limit for handing over what is left at the end of a run and uploading it."""

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
    """Tracker that records into one W&B run. If W&B cannot be reached, it records offline and says so.

    Online, W&B's client is called in a thread of its own: some calls wait for an answer of the server (those with a
    table), for minutes if the network has gone away.
    """

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
                console="off",
                disable_git=True,
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
                reinit="create_new",  # the run before in this process may still be waiting for the network
            ),
        }
        mode, problem, self._unreached = settings.used_mode, "", False
        if mode == "online" and not (os.environ.get("WANDB_API_KEY") or _logged_in()):
            problem = "tracking.mode=online needs an API key: run `wandb login`, or set WANDB_API_KEY"
        try:
            self._run = wandb.init(mode="offline" if problem else mode, **options)
        except Exception as error:  # W&B's own, and others if it is not W&B that answers
            if mode != "online" or problem:
                raise
            problem, self._unreached = f"W&B cannot be reached ({_one_line(error)})", True
            self._run = wandb.init(mode="offline", **options)
        self._background = Background() if mode == "online" and not problem else None
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
        self._record(lambda: self._run.log(named, step=metrics.get("step")))

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
        self._record(lambda: self._run.log({"step": step, "rollout/trees": table}, step=step))

    def summarize(self, summary: Mapping[str, Any]) -> None:
        self._record(lambda: self._run.summary.update({**summary, **results(summary)}))
        if self._settings.artifacts:
            self._record(self._upload)

    def close(self, exit_code: int) -> None:
        self._record(lambda: self._run.finish(exit_code=exit_code))
        if self._background is not None and not self._background.finish(CLOSE_SECONDS):
            self._failed(f"its server did not take everything within {CLOSE_SECONDS} s")
        if self._unreached or (self._background is not None and self._broken):
            self._end_service(exit_code)

    def _end_service(self, exit_code: int) -> None:
        """End W&B's process, which would go on trying for minutes; at its end, this process would wait for it.

        A thread of W&B's may still ask that process for news. Its error, of a type of W&B's, is not printed.
        """
        if not isinstance(threading.excepthook, _WithoutWandb):  # once, however many runs a sweep has
            threading.excepthook = _WithoutWandb(threading.excepthook)
        with contextlib.suppress(Exception, SystemExit):  # it may have ended already
            setup: Any = self._wandb.setup()
            setup.ensure_service()._proc._process.kill()
            self._wandb.teardown(exit_code)

    def _upload(self) -> None:
        """Record the reported weights (the adapter, with LoRA) as an artifact of the run."""
        artifact = self._wandb.Artifact(f"model-{self.id}", type="model")
        artifact.add_dir(str(self._folder / "model"))
        self._run.log_artifact(artifact)

    def _record(self, action: Callable[[], object]) -> None:
        """Record something: offline at once, online when it is its turn."""
        if self._background is None:
            self._try(action)
        elif not self._background.add(lambda: self._try(action)):
            self._failed("too many records wait for its server")

    def _try(self, action: Callable[[], object]) -> None:
        """Perform an action. W&B's failures do not stop a run, whatever their type."""
        try:
            action()
        except Exception as error:
            self._failed(f"{type(error).__name__}: {_one_line(error)}")

    def _failed(self, reason: str) -> None:
        """Say the first failure; the run's own files have everything."""
        if not self._broken:
            self._broken = True
            logger.warning("W&B failed (%s); the run goes on, and its own files hold everything", reason)


@dataclass(frozen=True)
class _WithoutWandb:
    """The hook for errors of threads, but for errors of W&B's types."""

    others: Callable[[threading.ExceptHookArgs], object]

    def __call__(self, error: threading.ExceptHookArgs) -> None:
        if not error.exc_type.__module__.startswith("wandb."):
            self.others(error)


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
