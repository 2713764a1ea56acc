"""A long training of a small model: ``python -m tests.endurance [--steps 2000]`` measures what it uses at every step.

Prints a table: the slope of each quantity over the steps after the first third, with a 95 % interval. Memory, handles,
threads and children must not grow. The disk grows by the lines of ``metrics.jsonl`` and of the logged rollouts;
checkpoints do not add to it, since ``checkpoint.keep`` bounds them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from src.config import compose
from src.train import train
from src.training.metrics_file import MetricsFile
from src.utils.tables import markdown

SETTINGS = [
    *("debug=smoke", "tracking=none", "train.threads=1", "rounds=1", "rounds.responses=2", "train.problems=1"),
    *("rounds.first_tokens=8", "evaluation.every=0", "evaluation.before=false", "evaluation.limit=2"),
    *("benchmark.test_size=2", "checkpoint.every=25", "checkpoint.keep=2", "train.rollouts_every=50"),
]
BLOCKS = 20
"""Means over so many blocks of steps are fitted, since neighbouring steps are not independent."""

BOUNDS = {"memory": 2048.0, "blocks": 2.0, "handles": 0.001, "threads": 0.001, "children": 0.001, "disk": 4096.0}
"""Largest slope per step that counts as flat: bytes, or numbers; of the disk, the lines of a step and some slack."""


def usage(run: Path) -> dict[str, float]:
    """What this process uses: bytes of resident memory and of the run directory; blocks of memory in use by Python
    objects; open files, threads, children."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tasks = Path("/proc/self/task").iterdir()
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "blocks": sys.getallocatedblocks(),
        "handles": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": threading.active_count(),
        "children": sum(len((task / "children").read_text().split()) for task in tasks),
        "disk": sum(file.stat().st_size for file in run.rglob("*") if file.is_file()),
    }


def measured(run: Path, steps: int) -> dict[str, list[float]]:
    """Train ``steps`` steps into ``run``. Returns the usage after each, by quantity."""
    rows, done = np.full((steps, len(BOUNDS)), -1.0), [0]  # filled, so that the record itself does not grow
    log = MetricsFile.log

    def watched(self: MetricsFile, metrics: Mapping[str, Any]) -> None:
        log(self, metrics)
        rows[done[0]] = list(usage(run).values())
        done[0] += 1

    MetricsFile.log = watched  # type: ignore[method-assign]
    try:
        train(compose("train", [*SETTINGS, f"train.steps={steps}"]), run)
    finally:
        MetricsFile.log = log  # type: ignore[method-assign]
    return {name: rows[: done[0], place].tolist() for place, name in enumerate(BOUNDS)}


def slope(values: list[float]) -> tuple[float, float, float]:
    """Slope per step of the steps after the first third, with its 95 % interval (least squares on means of blocks)."""
    tail = np.asarray(values[len(values) // 3 :], dtype=float)
    blocks = np.array_split(np.arange(len(tail)), min(BLOCKS, len(tail)))
    centres, means = (np.array([part[block].mean() for block in blocks]) for part in (np.arange(len(tail)), tail))
    fit = stats.linregress(centres, means)
    half = float(stats.t.ppf(0.975, len(blocks) - 2) * np.nan_to_num(fit.stderr))  # NaN if all are equal
    return float(fit.slope), float(fit.slope) - half, float(fit.slope) + half


def report(used: Mapping[str, list[float]]) -> tuple[str, list[str]]:
    """The table in Markdown, and the quantities that grow: those whose whole interval is above the bound."""
    lines, growing = [], []
    for name, bound in BOUNDS.items():
        values = used[name]
        middle, low, high = slope(values)
        if low > bound:
            growing.append(name)
        numbers = [values[len(values) // 3], values[-1], max(values)]
        lines.append(
            [name, *(f"{number:,.0f}" for number in numbers), f"{middle:.4g} [{low:.4g}, {high:.4g}]", f"{bound:g}"]
        )
    return markdown(["quantity", "after a third", "at the end", "largest", "slope per step", "bound"], lines), growing


def main() -> int:
    """Train, print the table, name what grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        used = measured(Path(folder) / "run", given.steps)
    table, growing = report(used)
    print(f"\n{table}\n\n{given.steps} steps, {time.monotonic() - begun:.0f} s, {os.cpu_count()} cores")
    for name in growing:
        print(f"GROWS: {name}")
    return 1 if growing else 0


if __name__ == "__main__":
    sys.exit(main())
