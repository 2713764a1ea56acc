"""Whole runs on a GPU: they repeat and resume exactly, with every optimizer and engine."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from src.config import resume
from src.train import train
from src.utils.checkpoints import latest
from tests.conftest import SMALL, run_small
from tests.helpers.processes import train_on
from tests.integration.test_train import metrics, stopped


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(latest(run) / "adapter" / "adapter_model.safetensors")


def assert_equal(one: Path, two: Path) -> None:
    assert metrics(one) == metrics(two)
    mine, others = adapter(one), adapter(two)
    assert all(torch.equal(weight, others[name]) for name, weight in mine.items())


@pytest.fixture(scope="module")
def gpu_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.gpu.conftest import DEVICE

    return run_small(tmp_path_factory.mktemp("runs") / "gpu", "train.steps=3", f"model.device={DEVICE}")


def test_a_run_repeats_bit_for_bit(gpu_run: Path, tmp_path: Path, on_gpu: list[str]) -> None:
    assert_equal(run_small(tmp_path / "again", "train.steps=3", *on_gpu), gpu_run)


def test_a_run_resumes_bit_for_bit(gpu_run: Path, tmp_path: Path) -> None:
    run = stopped(gpu_run, tmp_path / "run")
    newest = latest(run)
    for path in sorted(newest.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    newest.rmdir()
    directory, config = resume([f"resume={run}"])
    train(config, directory)
    assert_equal(run, gpu_run)


def test_a_run_starts_as_on_the_cpu(gpu_run: Path, tmp_path: Path) -> None:
    other = run_small(tmp_path / "cpu", "train.steps=3", "model.device=cpu", "model.dtype=float32")
    first, theirs = metrics(gpu_run)[0], metrics(other)[0]
    assert first["problems_seen"] == theirs["problems_seen"]
    names = [json.loads((run / "summary.json").read_text())["environment"]["device"] for run in (gpu_run, other)]
    assert names[0] == torch.cuda.get_device_name()


@pytest.mark.parametrize(
    "settings",
    [
        ["model.dtype=bfloat16"],
        ["model.lora=null", "optimizer.lr=1e-4"],
        ["optimizer=adamw-8bit"],
        ["model.quantization=nf4", "optimizer=adamw-8bit", "model.dtype=bfloat16"],
        ["model.gradient_checkpointing=true", "algorithm.kl_beta=0.1"],
        ["experiment=spiral"],
    ],
    ids=lambda settings: " ".join(settings),
)
def test_a_run_trains(settings: list[str], tmp_path: Path, on_gpu: list[str]) -> None:
    if "8bit" in " ".join(settings) or "nf4" in " ".join(settings):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    run = run_small(tmp_path / "run", *settings, *on_gpu)
    assert all(0 < one["grad_norm"] < float("inf") for one in metrics(run) if one["tokens/trained"])
    assert json.loads((run / "summary.json").read_text())["complete"]


def test_vllm_samples_a_run(tmp_path: Path, on_gpu: list[str]) -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed (make vllm)")
    run = run_small(tmp_path / "run", "engine=vllm", "model.dtype=bfloat16", *on_gpu)
    assert json.loads((run / "summary.json").read_text())["complete"]


def test_two_devices_train_as_one(tmp_path: Path, on_gpu: list[str]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two CUDA devices, this machine has {torch.cuda.device_count()}")
    settings = [*SMALL, *on_gpu, "train.problems=4", "optimizer.eps=1", "optimizer.lr=0.1"]
    one = run_small(tmp_path / "one", *settings[len(SMALL) :])
    results = train_on(tmp_path / "two", settings)
    assert [code for code, _, _ in results] == [0, 0], results
    for ours, theirs in zip(metrics(one), metrics(tmp_path / "two"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
