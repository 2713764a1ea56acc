"""Training on one process and on several: seconds of a step, and the traffic between the processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.config import ROOT
from src.speed.base import Measured, Workbench, comparison
from src.speed.timing import Timed
from src.types import InputError

GROUPS = ("model", "benchmark", "verifier", "rounds", "credit", "reward", "algorithm", "optimizer", "engine")
"""Config groups of src.speed that src.train has too."""

ALONE = ["evaluation.before=false", "evaluation.every=0", "evaluation.samples=1", "benchmark.test_size=1"]
"""What is left out of the runs: they only train."""

STEPS = 4
"""Steps of every run."""

PHASES = ("rollout", "reward", "train")


def measure(bench: Workbench) -> Measured:
    """Seconds of a training step on one process and on several, each with one thread. Runs alternate."""
    settings = bench.settings
    sizes = (1, settings.processes)
    names = {size: f"{size} process{'es' if size > 1 else ''}" for size in sizes}
    steps: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    overrides = [*arguments(bench), f"train.problems={settings.problems}"]
    for _ in range(settings.repeats):
        for size in sizes:
            steps[size] += trained(overrides, size)[settings.warmup :]
    timed = {
        phase: {names[size]: Timed(*zip(*[_cost(one, phases) for one in steps[size]], strict=True)) for size in sizes}
        for phase, phases in {"rollouts": PHASES[:1], "gradients": PHASES[2:], "whole step": PHASES}.items()
    }
    compared, numbers = comparison("A training step", timed, names[1])
    traffic = [one["traffic_bytes"] for one in steps[sizes[1]]]
    return Measured(
        f"Problems per step: {settings.problems}. Every process has one thread. Runs on one process and on several "
        f"alternate; the steps of a run that are left out as warm-up: {settings.warmup} of {STEPS}.",
        [compared],
        [f"A process sends {statistics.median(traffic) / 1024:.0f} KiB per step: rollouts and gradients."],
        {"rows": numbers, "traffic_bytes": traffic},
    )


def arguments(bench: Workbench) -> list[str]:
    """The overrides of src.train that select what this command was configured with."""
    chosen = [f"{group}={bench.config.choices[group]}" for group in GROUPS]
    own = [
        one for one in bench.config.overrides if one.lstrip("+~").split(".")[0] in GROUPS and "." in one.split("=")[0]
    ]
    return [*chosen, *own, *ALONE, f"seed={bench.seed}", "train.threads=1", "tracking=none"]


def trained(overrides: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Train for ``STEPS`` steps on ``size`` processes. Returns the metrics of the steps.

    Raises:
        InputError: the training failed; with what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        own = [f"train.steps={STEPS}", f"checkpoint.every={STEPS}", f"hydra.run.dir={run}"]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"] if size > 1 else []
        command = [sys.executable, *launcher, "-m", "src.train", *overrides, *own]
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"measure=[processes]: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _cost(metrics: dict[str, Any], phases: Sequence[str]) -> tuple[float, int]:
    """Seconds of some phases of a step, and the tokens that the step generated."""
    return sum(metrics[f"time/{phase}"] for phase in phases), metrics["tokens/generated"]
