"""The short form of ``make chaos``; ``python -m tests.chaos`` tries every fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from src.config import ROOT
from tests.chaos.table import REFUSED, SURVIVED, Table


def test_runs_survive_a_few_faults() -> None:
    """In a process of its own, since processes with threads must not be forked."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.chaos", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| SIGKILL during checkpoint" in done.stdout


def test_the_table_counts_outcomes_and_names_losses(tmp_path: Path) -> None:
    table, outcomes = Table(), iter([SURVIVED, REFUSED, "other weights"])

    def broken() -> str:
        raise KeyError("evaluations")

    for attempt in (*[lambda: next(outcomes)] * 3, broken):
        table.record("a fault", attempt, tmp_path / "log")
    cells = [cell.strip() for cell in table.text().splitlines()[2].split("|")[1:-1]]
    assert cells == ["a fault", "4", "1", "1", "2"]
    assert table.losses == ["a fault, try 3: other weights ", "a fault, try 4: KeyError: 'evaluations' "]
