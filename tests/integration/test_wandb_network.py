"""Whole runs with W&B online and a network that is away, falls silent or goes away: training ends as without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from src.config import ROOT
from tests.conftest import SMALL
from tests.helpers.fake_wandb import FakeWandb
from tests.integration.test_train import metrics

STEPS = 30
RUN = [*SMALL, "tracking=wandb", f"train.steps={STEPS}", "train.problems=1", "rounds=1", "rounds.responses=2"]
RUN += ["checkpoint.every=10", "train.rollouts_every=1", "evaluation.before=false", "evaluation.every=0"]
RUN += ["evaluation.rounds=[1]", "evaluation.limit=1", "evaluation.samples=1"]
LATER = 60.0
"""Seconds by which W&B may delay the end of a run."""


def started(run: Path, mode: str, url: str = "") -> subprocess.Popen[str]:
    """Start a run. Its output goes to a file: W&B's own process, which may outlive it, would hold a pipe open."""
    own = {"HOME": str(run.parent), "WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": url} if url else {}
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    with run.with_suffix(".txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "src.train", *RUN, f"tracking.mode={mode}", f"hydra.run.dir={run}"],
            cwd=ROOT,
            env={**variables, **own, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that is recorded offline, and its seconds."""
    run, begin = tmp_path_factory.mktemp("offline") / "run", time.monotonic()
    assert started(run, "offline").wait(timeout=300) == 0, run.with_suffix(".txt").read_text()
    return run, time.monotonic() - begin


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def ends(process: subprocess.Popen[str], begin: float, run: Path, offline: tuple[Path, float]) -> str:
    """Wait for an online run, and compare it with the offline one. Returns its output."""
    undisturbed, seconds = offline
    try:
        code = process.wait(timeout=seconds + 2 * LATER)
    finally:
        process.kill()
    taken, said = time.monotonic() - begin, run.with_suffix(".txt").read_text()
    print(f"offline {seconds:.1f} s, online {taken:.1f} s")
    assert code == 0, said
    assert taken < seconds + LATER
    assert "Traceback" not in said
    assert metrics(run) == metrics(undisturbed)
    return said


@pytest.mark.slow
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://10.255.255.1", "http://wandb.invalid", "silent"])
def test_a_run_without_a_network_is_recorded_offline(
    tmp_path: Path, offline: tuple[Path, float], silent: str, url: str
) -> None:
    run, begin = tmp_path / "run", time.monotonic()
    said = ends(started(run, "online", silent if url == "silent" else url), begin, run, offline)
    assert said.count("recorded offline") == 1, said
    assert list(run.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
@pytest.mark.parametrize("away", ["refuses connections", "never answers"])
def test_a_network_that_goes_away_neither_stops_nor_slows_a_run(
    tmp_path: Path, offline: tuple[Path, float], away: str
) -> None:
    run, server, begin = tmp_path / "run", FakeWandb(), time.monotonic()
    process = started(run, "online", server.url)

    def wait(there: Callable[[], bool]) -> None:
        while not there():
            assert process.poll() is None, run.with_suffix(".txt").read_text()
            assert time.monotonic() - begin < 120
            time.sleep(0.05)

    wait(lambda: any("file_stream" in path for path in server.requests) and (run / "metrics.jsonl").exists())
    assert len(metrics(run)) < STEPS, "the run goes on"
    if away == "refuses connections":
        server.die()
    else:
        server.silent = True
    said = ends(process, begin, run, offline)
    assert said.count("W&B failed") == 1, said
    server.silent = False
    server.die()


@pytest.mark.slow
def test_a_run_is_uploaded_while_the_network_is_there(tmp_path: Path, offline: tuple[Path, float]) -> None:
    run, server, begin = tmp_path / "run", FakeWandb(), time.monotonic()
    said = ends(started(run, "online", server.url), begin, run, offline)
    assert "W&B failed" not in said, said
    assert "offline" not in said, said
    assert any("file_stream" in path for path in server.requests)
    server.die()
