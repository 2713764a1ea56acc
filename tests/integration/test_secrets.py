"""Keys in the environment never reach a file or an output of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.config import ROOT
from tests.conftest import SMALL

NAMES = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY")
KEYS = {name: f"{number}{39 * 'a'}{number}" for number, name in enumerate(NAMES)}
OFFLINE = ["tracking=wandb", "tracking.mode=offline"]


def leaks(text: bytes) -> list[str]:
    return [name for name, key in KEYS.items() if key.encode() in text]


@pytest.mark.parametrize(
    "overrides",
    [
        OFFLINE,
        [*OFFLINE, "+reward.terms.bad={_target_: src.rewards.length.Length, shape: round}"],
        pytest.param(
            [*OFFLINE, "optimizer.lr=0.9", "train.max_grad_norm=1e30", "train.steps=3"], marks=pytest.mark.slow
        ),
    ],
    ids=["a run", "a refused run", "a run that diverges"],
)
def test_no_key_is_written(tmp_path: Path, overrides: list[str]) -> None:
    small = [one for one in SMALL if not one.startswith("tracking")]
    done = subprocess.run(
        [sys.executable, "-m", "src.train", *small, f"hydra.run.dir={tmp_path / 'run'}", *overrides],
        cwd=ROOT,
        env={**os.environ, **KEYS},
        capture_output=True,
        timeout=300,
    )
    assert leaks(done.stdout + done.stderr) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path)): found for path in files if (found := leaks(path.read_bytes()))} == {}
    assert files or done.returncode == 2, done.stderr
