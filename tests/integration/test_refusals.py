"""A refusal is cheap: the command has not imported the libraries that load and train models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src.config import ROOT

HEAVY = {"torch", "transformers", "peft", "datasets", "math_verify", "wandb", "scipy"}
SCRIPT = f"""
import runpy, sys
sys.argv[:] = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as ended:
    print("CODE", ended.code, "HEAVY", sorted({HEAVY} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("command", "overrides"),
    [
        ("train", ["algorithm.clip_low=2", "optimizer=nothing"]),
        ("train", ["resume=nowhere"]),
        ("evaluate", ["evaluation.samples=0"]),
        ("evaluate", ["run={run}", "checkpoint=99"]),
        ("solve", ["question=?", "rounds=0"]),
        ("solve", ["question=?", "run={run}", "checkpoint=best"]),
        ("export", ["run={run}", "out=out", "checkpoint=99"]),
        ("report", ["runs=nowhere", "out=out"]),
        ("plan", ["runs=nowhere"]),
        ("warmup", ["seed=-1"]),
        ("speed", ["seed=-1"]),
        ("pretrain", ["seed=-1"]),
        ("solve", ["run=null", "tracking=null", "--cfg", "job"]),
    ],
)
def test_a_refused_command_has_loaded_no_heavy_library(small_run: Path, command: str, overrides: list[str]) -> None:
    arguments = [override.format(run=small_run) for override in overrides]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, f"src.{command}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1:] == ["CODE 2 HEAVY []"], done.stdout + done.stderr
    assert "found" in done.stderr
    assert "Traceback" not in done.stderr
