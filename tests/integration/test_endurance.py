"""The short form of ``make endurance``, and what it computes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from src.config import ROOT
from tests.endurance import BOUNDS, report, slope


@pytest.mark.slow
def test_a_training_of_200_steps_uses_no_more_at_its_end() -> None:
    command = [sys.executable, "-m", "tests.endurance", "--steps", "200"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| memory" in done.stdout


def test_a_slope_is_fitted_after_the_first_third() -> None:
    middle, low, high = slope([10.0 * min(step, 100) for step in range(300)])
    assert (middle, low, high) == pytest.approx((0, 0, 0), abs=1e-9)
    middle, low, high = slope([3.0 * step + step % 2 for step in range(300)])
    assert (middle, low, high) == pytest.approx((3, 3, 3), abs=0.01)
    middle, low, high = slope([float(step**2) for step in range(300)])
    assert low < middle < high


@pytest.mark.parametrize("name", BOUNDS)
def test_a_quantity_that_grows_is_named(name: str) -> None:
    flat = {quantity: [5.0] * 100 for quantity in BOUNDS}
    assert report(flat)[1] == []
    assert report(flat | {name: [5.0 + 2 * BOUNDS[name] * step for step in range(100)]})[1] == [name]
