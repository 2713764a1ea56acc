"""Finding and verifying the checkpoints of a run directory.

A checkpoint is a folder ``checkpoints/step_<s>``, which gets its name when it is complete. Its ``manifest.json`` holds
a checksum of every file. ``checkpoints/best`` holds the weights with the best validation accuracy, if the run keeps
them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from src.types import InputError

BEST, LATEST = "best", "latest"


def steps(run: Path) -> list[int]:
    """List the steps with a complete checkpoint, oldest first."""
    names = [path.name.removeprefix("step_") for path in (run / "checkpoints").glob("step_*")]
    return sorted(int(name) for name in names if name.isdigit())


def latest(run: Path) -> Path:
    """Return the newest checkpoint of a run.

    Raises:
        InputError: there is none, or its files do not match their checksums.
    """
    saved = steps(run)
    if not saved:
        raise InputError(
            f"{run}: holds no complete checkpoint to continue from (looked for checkpoints/step_<s>/manifest.json). "
            "Start the run again."
        )
    folder = run / "checkpoints" / f"step_{saved[-1]}"
    if problems := broken(folder):
        older = f" Remove {folder} to continue from step {saved[-2]}." if len(saved) > 1 else " Start the run again."
        raise InputError(f"{folder}: the checkpoint is damaged ({', '.join(problems)}).{older}")
    return folder


def chosen(run: Path, checkpoint: str | int | None) -> Path:
    """Resolve the setting ``checkpoint`` (``best``, ``latest`` or a step) to a folder.

    ``None`` means the weights that the summary reports: ``best`` if the run kept the best weights, else the newest
    checkpoint. A run without a summary is not complete; its newest checkpoint is taken.

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
        valid = [BEST] if (run / "checkpoints" / BEST).is_dir() else []
        raise InputError(
            f"checkpoint={checkpoint}: {run} holds no such checkpoint; valid: {', '.join([*valid, LATEST])}, or a step "
            f"of {steps(run)}"
        )
    if problems := broken(folder):
        raise InputError(f"{folder}: the checkpoint is damaged ({', '.join(problems)}).")
    return folder


def step_of(folder: Path) -> int:
    """Return the step at which a checkpoint's weights were saved."""
    if folder.name != BEST:
        return int(folder.name.removeprefix("step_"))
    return int(json.loads((folder / "step.json").read_text(encoding="utf-8"))["step"])


def broken(folder: Path) -> list[str]:
    """List missing files and wrong checksums of a checkpoint; empty if it is intact."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return ["manifest.json is missing"]
    try:
        expected: dict[str, str] = json.loads(manifest.read_text())
    except ValueError:
        return ["manifest.json is not JSON"]
    problems = []
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif checksum(path) != digest:
            problems.append(f"{name} does not match its checksum")
    return problems


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
