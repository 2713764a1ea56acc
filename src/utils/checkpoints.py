"""Finding and verifying the checkpoints of a run directory.

A checkpoint is a folder ``checkpoints/step_<s>``, which gets its name when it is complete. Its ``manifest.json`` holds
a checksum of every file. ``checkpoints/best`` holds the weights with the best validation accuracy, if the run keeps
them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

from src.types import InputError
from src.utils.files import write_text

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
        intact = next((step for step in reversed(saved[:-1]) if not broken(folder.with_name(f"step_{step}"))), None)
        remedy = (
            f"checkpoint={intact} takes the newest intact one, and resume={run} continues from it."
            if intact is not None
            else "No other checkpoint is intact; start the run again."
        )
        raise InputError(f"{folder}: the checkpoint is damaged ({', '.join(problems)}). {remedy}")
    return folder


def to_continue(run: Path, say: Callable[[str], None]) -> Path | None:
    """Return the newest intact checkpoint of a run, ``None`` if the run has saved none yet.

    Newer ones that are damaged are kept aside under the name ``damaged_step_<s>``, and ``say`` is told.

    Raises:
        InputError: all checkpoints are damaged.
    """
    damaged = dict[int, list[str]]()
    for step in reversed(steps(run)):
        if not (problems := broken(run / "checkpoints" / f"step_{step}")):
            break
        damaged[step] = problems
    else:
        if damaged:
            latest(run)  # raises
        return None
    for newer, problems in damaged.items():
        aside = _set_aside(run / "checkpoints" / f"step_{newer}")
        say(
            f"{run}: the checkpoint of step {newer} is damaged ({', '.join(problems)}). It is kept as "
            f"checkpoints/{aside.name}; the run continues from step {step}."
        )
    folder = run / "checkpoints" / f"step_{step}"
    if damaged:
        write_text(folder.with_name(LATEST), folder.name + "\n")
    return folder


def intact_best(run: Path) -> None:
    """Check the weights in ``checkpoints/best``, which a run that keeps the best weights reports at its end.

    Raises:
        InputError: they are damaged or missing.
    """
    folder = run / "checkpoints" / BEST
    if problems := broken(folder):
        raise InputError(
            f"{folder}: the best weights are damaged ({', '.join(problems)}), and the run would report them. Restore "
            "them, or move the checkpoints of that step and of later ones away: the run then trains these steps again."
        )


def _set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint to a name that is not taken."""
    suffixes = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
    candidates = (folder.with_name(f"damaged_{folder.name}{suffix}") for suffix in suffixes)
    return folder.rename(next(candidate for candidate in candidates if not candidate.exists()))


def whole(folder: Path) -> bool:
    """Whether a checkpoint has all files of its manifest. Cheaper than ``broken``: no checksums are computed."""
    try:
        names = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(names, dict) and all((folder / name).is_file() for name in names)


def chosen(run: Path, checkpoint: str | int | None) -> Path:
    """Resolve the setting ``checkpoint`` (``best``, ``latest`` or a step) to a folder.

    ``None`` means the weights that the summary reports: ``best`` if the run kept the best weights, else the newest
    checkpoint. A run without a summary is not complete; its newest checkpoint is taken.

    Raises:
        InputError: there is no such checkpoint, or it is damaged.
    """
    if checkpoint is None:
        file = run / "summary.json"
        try:
            reported = json.loads(file.read_text(encoding="utf-8")).get("best") if file.is_file() else None
        except (ValueError, AttributeError) as error:
            raise InputError(
                f"{file}: damaged ({error}); name the weights with checkpoint={BEST}, checkpoint={LATEST} or a step"
            ) from error
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
        expected = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError:
        return ["manifest.json is not JSON"]
    if not isinstance(expected, dict) or not expected:
        return ["manifest.json lists no files"]
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
