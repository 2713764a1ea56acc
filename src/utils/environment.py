"""Execution environment of a run: deterministic settings, and a record of versions and hardware."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.utils.files import write_json

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "numpy",
    "datasets",
    "math-verify",
    "reasoning-gym",
    "hydra-core",
    "omegaconf",
    "wandb",
)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameter numbers of glibc's mallopt(3)."""


def prepare(threads: int, run: Path, world_size: int = 1) -> dict[str, Any]:
    """Set the number of threads, enable deterministic kernels, and record the environment.

    With ``threads`` 0, a resumed run gets the number of threads it started with. Returns the record, which is also
    written to ``environment.json`` and becomes part of ``summary.json``. A difference from the record of an earlier
    start is printed as a warning. ``world_size`` is the number of processes of the run.
    """
    import torch

    file, earlier = run / "environment.json", recorded_environment(run)
    make_deterministic(threads or earlier.get("threads", torch.get_num_threads()))
    now = {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    if earlier:
        earlier.setdefault("world_size", 1)  # records of old runs, which had one process
    for name in ("versions", "threads", "world_size", "instructions", "device"):
        if name in earlier and earlier[name] != now[name]:
            print(f"warning: {name} was {earlier[name]} and is {now[name]}: the resumed run will not be bit-exact")
    write_json(file, now)
    return now


def make_deterministic(threads: int) -> None:
    """Use ``threads`` CPU threads and deterministic kernels."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Debug option that fills uninitialised tensors; off because it costs an extra write per allocation.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory of large tensors instead of returning it to the kernel.

    Otherwise the kernel zeroes new pages for every large allocation, which costs up to a fifth of a training step. Peak
    memory does not change.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Exempt all objects that exist now from garbage collection until the context closes.

    Python visits all objects, and empties its lists of free ones, when a quarter of the objects is new. The libraries
    hold half a million, so what checkpoints leave in reference cycles would grow for thousands of steps. With them
    exempt, a collection takes milliseconds.
    """
    gc.freeze()
    gc.collect()  # visits nothing; the quarter now counts from here
    try:
        yield
    finally:
        gc.unfreeze()


def restore_threads(threads: int, run: Path) -> None:
    """Use ``threads`` CPU threads, or as many as ``run`` used: another number changes the last bits of results."""
    keep_freed_memory()
    set_threads(threads or recorded_environment(run).get("threads", 0))


def recorded_environment(run: Path) -> dict[str, Any]:
    """Read the record of a run's earlier start; empty if there was none. A damaged record is said."""
    file = run / "environment.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError:
        record = None
    if isinstance(record, dict):
        return record
    print(f"warning: {file} is damaged: with another number of threads, results will not be bit-exact")
    return {}


def set_threads(threads: int) -> None:
    """Use ``threads`` CPU threads; with 0, torch decides."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def cpu_features() -> set[str]:
    """Instruction sets of the CPU that this version of torch reports."""
    import torch

    return {name for name, supported in getattr(torch.cpu, "get_capabilities", dict)().items() if supported is True}


def peak_memory() -> dict[str, float]:
    """Peak resident memory of this process in MiB."""
    return {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _commit() -> str | None:
    """Commit of the checkout, marked as dirty if it has changes; ``None`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
