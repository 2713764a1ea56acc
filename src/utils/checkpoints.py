"""The checkpoints of a run directory: which there are, whether they are intact, and which one is meant.

A checkpoint is a folder ``checkpoints/step_<s>``, complete once it has its name; ``manifest.json`` holds a checksum of
every file. ``checkpoints/best`` holds the weights with the best validation accuracy, if the run keeps them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from src.types import InputError

BEST, LATEST = "best", "latest"


def steps(run: Path) -> list[int]:
    """Steps with a complete checkpoint, oldest first."""
    names = [path.name.removeprefix("step_") for path in (run / "checkpoints").glob("step_*")]
    return sorted(int(name) for name in names if name.isdigit())


def latest(run: Path) -> Path:
    """The newest complete and intact checkpoint of a run.

    Raises:
        InputError: there is none, or its files do not match their checksums.
    """
    found = steps(run)
    if not found:
        raise InputError(
            f"{run}: holds no complete checkpoint to continue from (looked for checkpoints/step_<s>/manifest.json). "
            "Start the run again."
        )
    folder = run / "checkpoints" / f"step_{found[-1]}"
    if problems := broken(folder):
        older = f" Remove {folder} to continue from step {found[-2]}." if len(found) > 1 else " Start the run again."
        raise InputError(f"{folder}: the checkpoint is damaged ({', '.join(problems)}).{older}")
    return folder


def chosen(run: Path, checkpoint: str | int | None) -> Path:
    """The folder that ``checkpoint=`` means: ``best``, ``latest`` or a step; by default what the summary reports.

    Without a summary (a run that is not complete) the default is the newest checkpoint.

    Raises:
        InputError: there is no such checkpoint, or it is damaged.
    """
    if checkpoint is None:
        file = run / "summary.json"
        reported = json.loads(file.read_text(encoding="utf-8")).get("best") if file.is_file() else None
        checkpoint = BEST if reported else LATEST
    if checkpoint == LATEST:
        return latest(run)
    name = BEST if checkpoint == BEST else f"step_{checkpoint}"
    folder = run / "checkpoints" / name
    if not folder.is_dir():
        there = [BEST] if (run / "checkpoints" / BEST).is_dir() else []
        raise InputError(
            f"checkpoint={checkpoint}: {run} holds no such checkpoint; valid: {', '.join([*there, LATEST])}, or a step "
            f"of {steps(run)}"
        )
    if problems := broken(folder):
        raise InputError(f"{folder}: the checkpoint is damaged ({', '.join(problems)}).")
    return folder


def step_of(folder: Path) -> int:
    """The step that a checkpoint's weights were saved at."""
    if folder.name != BEST:
        return int(folder.name.removeprefix("step_"))
    return int(json.loads((folder / "step.json").read_text(encoding="utf-8"))["step"])


def broken(folder: Path) -> list[str]:
    """The damage of a checkpoint, file by file; nothing if all checksums match."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return ["manifest.json is missing"]
    try:
        expected: dict[str, str] = json.loads(manifest.read_text())
    except ValueError:
        return ["manifest.json is not JSON"]
    problems = []
    for name, known in expected.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif checksum(path) != known:
            problems.append(f"{name} does not match its checksum")
    return problems


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
