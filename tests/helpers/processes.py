"""Runs of ``src.train`` on several real processes, as a launcher starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from src.config import ROOT

LIMIT = 240
"""Seconds after which a test gives up waiting for a process."""


def start(arguments: Sequence[str], size: int = 2) -> list[subprocess.Popen[str]]:
    """Start ``python <arguments>`` in ``size`` processes, with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for the processes; return exit code, standard output and standard error of each, by rank."""
    try:
        texts = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def train_on(folder: Path, overrides: Sequence[str], size: int = 2) -> list[tuple[int, str, str]]:
    """Train into ``folder`` with ``size`` processes; return their exit codes and outputs."""
    return finish(start(["-m", "src.train", *overrides, f"hydra.run.dir={folder}"], size))
