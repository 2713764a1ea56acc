"""A run on vLLM servers goes on with other servers: they may have moved while it was stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.config import ROOT, resume, store
from src.train import train
from src.types import InputError
from tests.conftest import run_small
from tests.helpers.fake_vllm import FakeVLLM
from tests.integration.test_train import adapter, metrics

SERVED = ["engine=vllm-server", "rounds=1", "rounds.responses=2", "train.problems=1", "checkpoint.keep=0"]
SERVED += ["evaluation.before=false", "evaluation.every=0", "evaluation.rounds=[1]", "evaluation.limit=1"]
SERVED += ["evaluation.samples=1", "model.round_tokens=8"]


@pytest.fixture
def servers() -> Iterator[list[FakeVLLM]]:
    made = [FakeVLLM(ROOT / "src" / "assets" / "tiny") for _ in range(2)]
    for server in made:
        server.context = 4096
    yield made
    made[1].stop()


@pytest.mark.slow
def test_a_run_resumes_with_servers_at_other_addresses(tmp_path: Path, servers: list[FakeVLLM]) -> None:
    old, new = servers
    whole = run_small(tmp_path / "whole", *SERVED, f"engine.urls=[{old.url}]")
    moved = shutil.copytree(whole, tmp_path / "moved")
    old.stop()
    (moved / "summary.json").unlink()
    shutil.rmtree(moved / "checkpoints" / "step_2")
    recorded = moved / ".hydra" / "config.yaml"
    recorded.write_text(recorded.read_text().replace(old.url, "http://node1.example:8000"))
    with pytest.raises(InputError, match=r"engine\.urls=http://node1\.example:8000 is an address on another"):
        resume([f"resume={moved}"])
    directory, config = resume([f"resume={moved}", f"engine.urls=[{new.url}]"])
    store(directory, config)
    train(config, directory)
    assert metrics(moved) == metrics(whole)
    assert adapter(moved) == adapter(whole)
    assert new.url in recorded.read_text()
    assert "/v1/completions" in new.paths()
