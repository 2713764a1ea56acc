"""Saving and loading training checkpoints: atomic writes, bit-exact resume.

A checkpoint holds the adapter in PEFT's layout (or the whole model, if all weights are trained),
``trainer_state.json`` and ``trainer_state.safetensors`` (optimizer, schedule, random states, position), the run's
``metrics.jsonl`` so far, and ``manifest.json`` (a checksum of every file). All of it is data: nothing is unpickled.
It is written under a temporary name and renamed when complete. ``checkpoints/latest`` names the newest checkpoint.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from src.training.state_files import load_data, save_data
from src.types import InputError
from src.utils.checkpoints import BEST, checksum, steps, whole
from src.utils.files import sync, whole_folder, write_json, write_text

METRICS = "metrics.jsonl"
"""The metrics of all steps so far, which a checkpoint copies: a few kilobytes per step."""

STATE, OLD_STATE = "trainer_state.json", "trainer_state.pt"
"""The state of a trainer, and its name in checkpoints of older versions: a file of torch."""

NUMPY: list[Any] = [np.ndarray, np.dtype, np.dtypes.UInt32DType, np.zeros(0).__reduce__()[0]]
"""What the state of NumPy's generator consisted of in checkpoints of older versions."""


@dataclass
class State:
    """Progress of a run: the part of a checkpoint besides weights, optimizer, schedule and random states."""

    step: int = 0
    problems: int = 0  # problems sampled so far
    verifier_failures: int = 0  # answers of training that the verifier gave no verdict on
    nonfinite: int = 0  # rewards that were no finite numbers, and updates that were skipped for one
    seconds: float = 0.0  # wall-clock time so far
    tracker_id: str | None = None
    validations: int = 0  # so far; 0 in checkpoints of older versions
    best: dict[str, Any] = field(default_factory=dict)  # step, validation accuracy and verdicts of the best weights
    pending: dict[str, Any] = field(default_factory=dict)  # metrics of a step that is trained but not yet validated


class Saveable(Protocol):
    """Anything that can write its weights into a folder; in training, the policy."""

    def save(self, folder: Path) -> None:
        """Write the weights into ``folder``."""
        ...


def save(run: Path, step: int, policy: Saveable, state: dict[str, Any], keep: int = 0) -> Path:
    """Write the checkpoint of a completed step, then delete all but the ``keep`` newest (0 keeps all).

    Checkpoints that lack files do not count, so that the last whole one is never deleted.
    """
    folder = run / "checkpoints"
    target, temporary = folder / f"step_{step}", folder / f".step_{step}.tmp"
    if target.exists():
        return target  # the run is deterministic, so the content would be identical
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        policy.save(temporary)
        if (run / METRICS).exists():
            shutil.copyfile(run / METRICS, temporary / METRICS)
        save_data({**state, "step": step, "random": _random_state()}, temporary / STATE)
        for path in _seal(temporary):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync(temporary)
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk, it would take the room that is left
        raise
    temporary.replace(target)
    sync(folder)
    write_text(folder / "latest", target.name + "\n")
    if keep:
        for old in [one for one in steps(run) if whole(folder / f"step_{one}")][:-keep]:
            shutil.rmtree(folder / f"step_{old}")
    return target


def save_best(run: Path, step: int, accuracy: float, policy: Saveable) -> None:
    """Replace ``checkpoints/best`` with the policy's current weights, of ``step`` with validation ``accuracy``."""
    with whole_folder(run / "checkpoints" / BEST) as draft:
        policy.save(draft)
        write_json(draft / "step.json", {"step": step, "validation_accuracy": accuracy})
        _seal(draft)


def _seal(folder: Path) -> list[Path]:
    """Write ``manifest.json`` with the checksums of all files. Returns the files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / "manifest.json", {str(path.relative_to(folder)): checksum(path) for path in files})
    return files


def load_state(folder: Path) -> dict[str, Any]:
    """Load the trainer state of a checkpoint and restore all random number generators.

    Raises:
        InputError: the state is not as ``save`` writes it.
    """
    file = folder / STATE
    if not file.exists() and (folder / OLD_STATE).exists():
        file = folder / OLD_STATE
    state = load_data(file) if file.name == STATE else _load_old(file)
    try:
        _restore_random(*state["random"])
    except (LookupError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{file}: no states of random number generators ({error})") from error
    return state


def _load_old(file: Path) -> dict[str, Any]:
    """Load the state of an older version: numbers and tensors in a pickle, and no objects."""
    try:
        with torch.serialization.safe_globals(NUMPY):
            state: dict[str, Any] = torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{file}: holds objects other than numbers and tensors, and loading them could run code; not loaded"
        ) from error
    return state


def _restore_random(python: Any, numpy: Any, cpu: Any, cuda: Any) -> None:
    version, numbers, gauss = python
    random.setstate((version, tuple(map(int, numbers)), gauss))
    name, keys, *position = numpy
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *position))
    torch.set_rng_state(cpu)
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)


def _random_state() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    version, numbers, gauss = random.getstate()
    name, keys, *position = np.random.get_state(legacy=True)
    numpy = (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *position)
    return (version, torch.tensor(numbers), gauss), numpy, torch.get_rng_state(), cuda
