"""Saving and restoring a run: atomic, verified, exact.

A checkpoint is a folder ``checkpoints/step_<s>`` with the adapter in PEFT's layout (where all weights are trained, the
whole model), ``trainer_state.pt`` (optimizer, schedule, random states, position) and ``manifest.json`` (a checksum of
every file). It is written under another name and renamed when complete, and ``checkpoints/latest`` names the newest.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from src.types import InputError
from src.utils.files import whole_folder, write_json, write_text


@dataclass(frozen=True)
class CheckpointConfig:
    """How often to save and how many to keep."""

    every: int = 10  # steps
    keep: int = 2  # newest checkpoints; 0 keeps all

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if self.every < 1:
            errors.append(f"checkpoint.every={self.every} must be 1 or more steps")
        if self.keep < 0:
            errors.append(f"checkpoint.keep={self.keep} must be 0 (all) or more")
        return errors


class Saveable(Protocol):
    """What is trained."""

    def save(self, folder: Path) -> None:
        """Write its weights into ``folder``."""
        ...


def save(run: Path, step: int, policy: Saveable, state: dict[str, Any], keep: int = 0) -> Path:
    """Write the checkpoint of a completed step, then drop all but the ``keep`` newest."""
    folder = run / "checkpoints"
    target, temporary = folder / f"step_{step}", folder / f".step_{step}.tmp"
    if target.exists():
        return target  # the same step of the same run: the same bits
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    policy.save(temporary)
    torch.save({**state, "step": step, "random": _random_state()}, temporary / "trainer_state.pt")
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    write_json(temporary / "manifest.json", {str(path.relative_to(temporary)): _checksum(path) for path in files})
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    temporary.replace(target)
    write_text(folder / "latest", target.name + "\n")
    if keep:
        for old in steps(run)[:-keep]:
            shutil.rmtree(folder / f"step_{old}")
    return target


def save_best(run: Path, policy: Saveable) -> None:
    """Replace ``checkpoints/best`` with the present weights."""
    with whole_folder(run / "checkpoints" / "best") as draft:
        policy.save(draft)


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
    broken = _broken(folder)
    if broken:
        older = f" Remove {folder} to continue from step {found[-2]}." if len(found) > 1 else " Start the run again."
        raise InputError(f"{folder}: the checkpoint is damaged ({', '.join(broken)}).{older}")
    return folder


def load_state(folder: Path) -> dict[str, Any]:
    """The trainer state of a checkpoint; also restores every random state."""
    state: dict[str, Any] = torch.load(folder / "trainer_state.pt", weights_only=False)
    python, numpy, cpu, cuda = state["random"]
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
    return state


def _random_state() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _broken(folder: Path) -> list[str]:
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return ["manifest.json is missing"]
    try:
        expected: dict[str, str] = json.loads(manifest.read_text())
    except ValueError:
        return ["manifest.json is not JSON"]
    problems = []
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif _checksum(path) != checksum:
            problems.append(f"{name} does not match its checksum")
    return problems


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
