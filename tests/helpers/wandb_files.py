"""Reading the offline file of a W&B run with W&B's own reader: ``wandb leet inspect``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def records(file: Path) -> list[dict[str, Any]]:
    """Read the records of a ``.wandb`` file."""
    from wandb.util import get_core_path

    arguments = ["leet", "inspect", "-no-observability", "-json", "-run-file", str(file), str(file.parent.parent)]
    done = subprocess.run(
        [get_core_path(), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_run(run: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a type from all W&B runs of a run directory, oldest first."""
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        yield from ({**one[kind], "folder": file.parent / "files"} for one in records(file) if one["type"] == kind)


def exit_codes(run: Path) -> list[int]:
    """Exit codes of the W&B runs in a run directory, oldest first."""
    return [one.get("exit_code", 0) for one in of_run(run, "exit")]


def logged_steps(run: Path) -> list[int]:
    """Steps whose metrics the W&B runs in a run directory hold."""
    return [int(one["item"]["step"]) for one in of_run(run, "history") if "train/loss" in one["item"]]


def content(run: Path) -> dict[str, Any]:
    """What the W&B runs of a run directory hold: settings, metrics by step, rollout tables, step metrics by name."""
    found: dict[str, Any] = {"runs": list(of_run(run, "run")), "config": {}, "history": {}, "tables": [], "axes": {}}
    for one in found["runs"]:
        found["config"] |= one["config"]["update"]
    for one in of_run(run, "metric"):
        found["axes"][one.get("name") or one["glob_name"]] = one.get("step_metric")
    for one in of_run(run, "history"):
        values = one["item"]
        found["history"].setdefault(values["step"], {}).update(values)
        if path := values.get("rollout/trees.path"):
            found["tables"].append(json.loads((one["folder"] / path).read_text()))
    return found
