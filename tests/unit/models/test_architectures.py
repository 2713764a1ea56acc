"""Sampling, training and export of every supported family agree with PEFT's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from src.engines.agreement import check_agreement
from src.engines.local.engine import LocalEngine
from src.models.loading import load_merged, load_policy
from src.models.policy import Policy
from src.models.settings import Lora, ModelSettings
from src.types import InputError, Row, Sampling, Turn
from tests.helpers.architectures import REFUSED, SUPPORTED, save_architecture
from tests.helpers.tiny_models import adapted, plain_logprobs

SAMPLE = ("deepseek_v3", "gemma2", "gpt2", "gpt_oss", "phi3", "qwen3_moe")
"""Families with distinct features, tested in the fast suite: latent attention, soft-capping, learned positions,
attention sinks, partial rotary positions, experts."""

PROMPTS = [tuple((7 * row + 11 * place) % 300 + 3 for place in range(12 + 3 * row)) for row in range(5)]
TOLERANCE = 2e-4

families = pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in SUPPORTED]
)


def model(folder: Path, targets: Any = "all-linear") -> ModelSettings:
    return ModelSettings(
        name=str(folder), context=256, round_tokens=24, device="cpu", lora=Lora(r=4, alpha=8, targets=targets)
    )


def no_children(turn: Turn) -> list[Turn]:
    return []


def rows() -> list[list[Row]]:
    """Two completions of different lengths for each prompt."""
    return [
        [
            Row(prompt, completion, (0.0,) * len(completion), 1.0, 1.0, 1.0, tree, (sibling,))
            for sibling, completion in enumerate([(30, 40, 50), (60, 70)])
        ]
        for tree, prompt in enumerate(PROMPTS)
    ]


def gradients(policy: Policy) -> list[torch.Tensor]:
    found = [parameter.grad for parameter in policy.parameters()]
    for parameter in policy.parameters():
        parameter.grad = None
    return [torch.zeros(()) if gradient is None else gradient.clone() for gradient in found]


def check_export(policy: Policy, settings: ModelSettings, folder: Path) -> None:
    """The merged model has the logits of the model with its adapter."""
    policy.save(folder)
    merged, _ = load_merged(settings, folder)
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            torch.testing.assert_close(merged(ids).logits, policy.model(ids).logits, rtol=0, atol=1e-3)


@families
def test_sampling_training_and_export_equal_the_familys_own_forward_pass(family: str, tmp_path: Path) -> None:
    settings = model(save_architecture(tmp_path / "model", family, SUPPORTED[family]))
    policy = adapted(load_policy(settings, 0))

    turns = [Turn((index,), prompt, Sampling(12, 0.0)) for index, prompt in enumerate(PROMPTS)]
    for turn in LocalEngine(policy).generate(turns, no_children):
        output = policy.model.generate(
            input_ids=torch.tensor([turn.prompt]),
            attention_mask=torch.ones(1, len(turn.prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=sorted(policy.end_tokens),
        )
        assert turn.completion == tuple(output[0, len(turn.prompt) :].tolist())
        with torch.no_grad():
            expected = plain_logprobs(policy, turn.prompt, turn.completion, 1.0)
        assert turn.logprobs == pytest.approx(expected.tolist(), abs=TOLERANCE)

    packs = rows()
    logprobs, _, mask = policy.completion_logprobs(packs)
    logprobs[mask].sum().backward()
    learned = gradients(policy)
    plain = torch.cat([plain_logprobs(policy, row.prompt, row.completion, 1.0) for pack in packs for row in pack])
    torch.testing.assert_close(logprobs[mask], plain, rtol=0, atol=TOLERANCE)
    plain.sum().backward()
    for found, expected in zip(learned, gradients(policy), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

    check_export(policy, settings, tmp_path)

    check_agreement(policy, LocalEngine(policy), settings.name, settings.context)


@pytest.mark.parametrize("case", REFUSED)
def test_an_unsupported_family_is_refused_before_weights_load(case: str, tmp_path: Path, monkeypatch: Any) -> None:
    family, config, message = REFUSED[case]
    folder = save_architecture(tmp_path, family, config)
    monkeypatch.setattr("src.models.loading._load_model", lambda settings: pytest.fail("weights were loaded"))
    with pytest.raises(InputError, match=message):
        load_policy(model(folder), 0)


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens", "q_proj"], ["q_proj"]])
def test_an_adapter_on_tied_embeddings_changes_one_side_only(targets: list[str], tmp_path: Path) -> None:
    settings = model(Path("src/assets/tiny").resolve(), targets)
    policy = load_policy(settings, 0)
    generator = torch.Generator().manual_seed(3)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    check_agreement(policy, LocalEngine(policy), settings.name, settings.context)
    check_export(policy, settings, tmp_path)


def test_lora_targets_that_match_no_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.lora\.targets: PEFT cannot adapt Qwen2ForCausalLM"):
        load_policy(model(Path("src/assets/tiny").resolve(), ["nothing"]), 0)
