"""Small runs in forked processes, which share the imports of their parent, and what is compared of them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

import src.train
from src import config as configuration
from src.evaluation import loop
from src.training import checkpoint, trainer
from src.training.learner import Learner
from src.training.metrics_file import MetricsFile
from src.training.trainer import Trainer
from src.utils import files

STEPS = 3
SETTINGS = [
    *("debug=smoke", "tracking=none", "train.threads=1", f"train.steps={STEPS}", "train.rollouts_every=1"),
    *("evaluation.limit=2", "evaluation.keep_best=true", "benchmark.test_size=4", "seed=0"),
]
TIMED = ("time/", "tokens_per_second")
PATIENCE = 120
"""Seconds after which a process counts as hanging."""

PHASES: dict[str, tuple[Any, str]] = {
    "rollout": (trainer, "grow"),
    "reward": (Trainer, "score"),
    "backward": (Learner, "backward"),
    "optimizer": (torch.optim.AdamW, "step"),
    "metrics": (MetricsFile, "log"),
    "checkpoint": (checkpoint, "save"),
    "best weights": (checkpoint, "save_best"),
    "validation": (Trainer, "validate"),
    "evaluation": (loop, "evaluate"),
    "publishing": (src.train, "publish"),
    "summary": (files, "write_json"),
}
"""The function of each phase of a run."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal) and its output."""

    code: int
    output: str

    @property
    def refused(self) -> bool:
        """Whether it ended with a sentence instead of a traceback."""
        return self.code in (1, 2) and "Traceback" not in self.output and bool(self.output.strip())


def recipe(*overrides: str) -> list[str]:
    """The settings of a run: two rounds of MOTIF, or the experiment that ``overrides`` name."""
    experiment = any(override.startswith("experiment=") for override in overrides)
    return [*SETTINGS, *([] if experiment else ["rounds=2"]), *overrides]


def begin(run: Path, *overrides: str) -> list[str]:
    """The arguments of a new run."""
    return [*recipe(*overrides), f"hydra.run.dir={run}"]


def fork(arguments: list[str], log: Path, fault: Callable[[], None] = lambda: None) -> int:
    """Start ``python -m src.train <arguments>`` in a forked process, after ``fault``. Returns its process number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.setsid()
        sys.argv[:] = ["src.train", *arguments]
        torch.set_num_threads(1)
        fault()
        code = src.train.main()
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, log: Path) -> Ended:
    """Wait for a forked process; one that hangs is killed."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return Ended(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"))
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return Ended(1, f"Traceback: hung for {PATIENCE} s\n{log.read_text(errors='replace')}")


def start(arguments: list[str], log: Path, fault: Callable[[], None] = lambda: None) -> Ended:
    """Run ``python -m src.train <arguments>`` in a forked process to its end."""
    return wait(fork(arguments, log, fault), log)


def at(phase: str, entry: int, action: Callable[[], None]) -> Callable[[], None]:
    """The fault that performs ``action`` when a phase is entered for the ``entry``-th time (1-based)."""
    owner, name = PHASES[phase]

    def install() -> None:
        original, count = getattr(owner, name), [0]

        def entered(*arguments: Any, **options: Any) -> Any:
            if phase != "summary" or Path(arguments[0]).name == "summary.json":
                count[0] += 1
                if count[0] == entry:
                    action()
            return original(*arguments, **options)

        setattr(owner, name, entered)

    return install


def signals(numbers: list[int], delay: float, pause: float = 0.0) -> Callable[[], None]:
    """The action that sends signals to this process after ``delay`` seconds, ``pause`` seconds apart."""

    def send() -> None:
        time.sleep(delay)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(pause)

    return lambda: threading.Thread(target=send, daemon=True).start()


def durations(log: Path) -> Callable[[], None]:
    """The fault that measures each phase: writes the seconds of all entries to ``log``, as JSON by phase."""

    def install() -> None:
        seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}

        def watch(phase: str, owner: Any, name: str) -> None:
            original = getattr(owner, name)

            def entered(*arguments: Any, **options: Any) -> Any:
                begin = time.perf_counter()
                result = original(*arguments, **options)
                if phase != "summary" or Path(arguments[0]).name == "summary.json":
                    seconds[phase].append(time.perf_counter() - begin)
                    log.write_text(json.dumps(seconds))
                return result

            setattr(owner, name, entered)

        for phase, (owner, name) in PHASES.items():
            watch(phase, owner, name)

    return install


def results(run: Path) -> dict[str, Any]:
    """Everything of a finished run that must not depend on faults: numbers, texts and weights, without times."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    summary = json.loads((run / "summary.json").read_text())
    weights = {  # and moments of the optimizer; no result depends on the state of a process's global generators
        str(file.relative_to(run)): {
            key: tensor.tobytes() for key, tensor in load_file(file).items() if not key.startswith("random.")
        }
        for folder in (f"checkpoints/step_{STEPS}", "checkpoints/best", "model")
        for file in sorted((run / folder).rglob("*.safetensors"))
    }
    return {
        "metrics": [{key: value for key, value in line.items() if not key.startswith(TIMED)} for line in lines],
        "summary": {key: summary[key] for key in ("evaluations", "best", "reported_step", "base_sha256", "complete")},
        "weights": weights,
        "rollouts": {file.name: file.read_bytes() for file in sorted((run / "rollouts").glob("*.jsonl"))},
        "configuration": configuration.load(run),
    }


def differing(run: Path, undisturbed: dict[str, Any], without: tuple[str, ...] = ()) -> list[str]:
    """Names of the results that differ from those of an undisturbed run."""
    found = results(run)
    return [name for name, value in undisturbed.items() if name not in without and found[name] != value]
