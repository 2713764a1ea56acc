"""The machine a run has: made deterministic, and written down."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
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
"""Parameters of glibc's mallopt(3)."""


def prepare(threads: int, run: Path) -> dict[str, Any]:
    """Fix what bits depend on (threads, deterministic kernels) and describe it; a resumed run gets its own again.

    Returns the description that ``summary.json`` holds; it is also kept in ``environment.json`` of the run.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    keep_freed_memory()
    file = run / "environment.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    torch.set_num_threads(threads or earlier.get("threads", torch.get_num_threads()))
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A search aid that writes all new memory once more.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    now = {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    for name in ("versions", "threads", "instructions", "device"):
        if earlier and earlier[name] != now[name]:
            print(f"warning: {name} was {earlier[name]} and is {now[name]}: the run continues, but not bit for bit")
    write_json(file, now)
    return now


def keep_freed_memory() -> None:
    """Have glibc keep what large tensors free, instead of asking the kernel for zeroed pages for each of them anew: up
    to a fifth of a training step. The peak stays what it was."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def restore_threads(threads: int, run: Path) -> None:
    """Use ``threads`` CPU threads, or those that ``run`` had; other numbers change the last bits of results."""
    file = run / "environment.json"
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    keep_freed_memory()
    set_threads(threads or earlier.get("threads", 0))


def set_threads(threads: int) -> None:
    """Use that many CPU threads; 0 leaves it to torch."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def cpu_features() -> set[str]:
    """Instruction sets of the CPU, as far as this torch reports them."""
    import torch

    return {name for name, there in getattr(torch.cpu, "get_capabilities", dict)().items() if there is True}


def peak_memory() -> dict[str, float]:
    """The most memory this process has held, in MiB."""
    return {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _commit() -> str | None:
    """The checkout's commit, with a mark if it has changes; ``None`` outside a checkout."""
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
