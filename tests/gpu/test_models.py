"""The models on a GPU: its tokens, log-probs and gradients are those of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from src.engines.agreement import check_agreement
from src.engines.local.engine import LocalEngine
from src.models.loading import load_policy
from src.models.policy import Policy
from src.models.settings import Lora, ModelSettings
from src.types import Row, Sampling, Turn
from tests.helpers.tiny_models import adapted, save_tiny

PROMPTS = [tuple((7 * row + 11 * place) % 36 + 3 for place in range(12 + 3 * row)) for row in range(5)]


def policy(folder: Path, device: str, dtype: str = "float32", **options: Any) -> Policy:
    settings = ModelSettings(
        name=str(folder), context=128, round_tokens=24, device=device, dtype=dtype, lora=Lora(r=4, alpha=8), **options
    )
    return adapted(load_policy(settings, 0))


def sampled(one: Policy, temperature: float) -> list[Turn]:
    turns = [Turn((index,), prompt, Sampling(12, temperature), stream=index) for index, prompt in enumerate(PROMPTS)]
    return sorted(LocalEngine(one).generate(turns, lambda turn: []), key=lambda turn: turn.path)


def rows(turns: list[Turn]) -> list[list[Row]]:
    return [[Row.of(turn, 1.0, 1.0)] for turn in turns]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_gpu_samples_the_tokens_of_the_cpu(temperature: float, tmp_path: Path, device: str) -> None:
    folder = save_tiny(tmp_path)
    ours, theirs = sampled(policy(folder, device), temperature), sampled(policy(folder, "cpu"), temperature)
    assert [turn.completion for turn in ours] == [turn.completion for turn in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gpu_has_the_gradients_of_the_cpu(checkpointing: bool, tmp_path: Path, device: str) -> None:
    folder = save_tiny(tmp_path)
    found = []
    for place in (device, "cpu"):
        one = policy(folder, place, gradient_checkpointing=checkpointing)
        logprobs, _, mask = one.completion_logprobs(rows(sampled(one, 1.0)))
        logprobs[mask].sum().backward()
        found.append([torch.zeros(()) if p.grad is None else p.grad.cpu() for p in one.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_sampled_is_what_is_trained(dtype: str, tmp_path: Path, device: str) -> None:
    one = policy(save_tiny(tmp_path), device, dtype)
    check_agreement(one, LocalEngine(one), "tiny", 128)


def test_what_is_sampled_in_four_bits_is_what_is_trained(tmp_path: Path, device: str) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    one = policy(save_tiny(tmp_path, hidden_size=64, intermediate_size=128), device, "bfloat16", quantization="nf4")
    check_agreement(one, LocalEngine(one), "tiny", 128)
