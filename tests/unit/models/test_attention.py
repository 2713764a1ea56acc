"""Packed attention, which skips masked blocks, equals dense attention under one mask."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from src.models import attention, packing
from src.models.loading import load_policy
from src.models.settings import ModelSettings
from tests.helpers.architectures import save_architecture
from tests.helpers.tiny_models import kept_for_backward, random_rows, random_tokens, save_tiny, tiny_policy

SINGLE = [[(9, 4)], [(20, 3)], [(1, 6)]]
FAMILIES = [[(9, 4), (9, 1), (9, 31)], [(20, 3)], [(1, 6), (1, 7)], [(33, 16), (33, 15), (33, 8), (33, 40)]]
EQUAL = [[(12, 8)] * 4, [(12, 8)] * 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def packed(lengths):
    """Packs of rows with these (prompt, completion) lengths; the rows of a pack share one prompt."""
    rows = iter(random_rows(0, [pair for pack in lengths for pair in pack]))
    packs = [[next(rows) for _ in pack] for pack in lengths]
    return [[replace(row, prompt=pack[0].prompt) for row in pack] for pack in packs]


def outcome(policy, packs, dense=False):
    """Log-probs, and all gradients of a random function of them."""
    if dense:
        policy.model.set_attn_implementation("sdpa")
        policy._shares = False
    logprobs, _, mask = policy.completion_logprobs(packs)
    weights = torch.randn(logprobs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (weights.to(logprobs) * mask * logprobs).sum().backward()
    return logprobs.detach(), [parameter.grad for parameter in policy.parameters()]


@pytest.mark.parametrize("lengths", [SINGLE, FAMILIES, EQUAL], ids=["single", "families", "equal"])
@pytest.mark.parametrize("at_once", [packing.SPAN_TOKENS, 64])
def test_packed_attention_equals_dense_attention_under_the_mask(folder, monkeypatch, lengths, at_once):
    monkeypatch.setattr(packing, "SPAN_TOKENS", at_once)
    policy, packs = tiny_policy(folder, "float64"), packed(lengths)
    assert policy._shares
    logprobs, gradients = outcome(policy, packs)
    expected, expected_gradients = outcome(tiny_policy(folder, "float64"), packs, dense=True)
    torch.testing.assert_close(logprobs, expected, rtol=0, atol=1e-12)
    for found, oracle in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, oracle, rtol=1e-10, atol=1e-10)


def test_half_precision_agrees_within_rounding(folder):
    packs = packed(FAMILIES)
    logprobs, gradients = outcome(tiny_policy(folder, "bfloat16"), packs)
    exact, expected = outcome(tiny_policy(folder, "float64"), packs)
    dense, by_mask = outcome(tiny_policy(folder, "bfloat16"), packs, dense=True)
    assert (logprobs - exact).abs().mean() <= 1.2 * (dense - exact).abs().mean()

    def off(found):
        return sum(float((a.double() - b).square().sum()) for a, b in zip(found, expected, strict=True)) ** 0.5

    assert off(gradients) <= 1.2 * off(by_mask)


def test_layers_with_a_sliding_window_use_the_mask():
    """A layer whose window is only a few tokens long."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=5,
        attn_implementation="sdpa",
    )
    model = MistralForCausalLM(config).double().eval()
    assert attention.install(model)
    rng = random.Random(0)
    ids = torch.tensor([random_tokens(rng, 24)])
    mask = torch.ones(1, 1, 24, 24, dtype=torch.bool).tril().triu(-4)
    spans = packing.spans([20], [[4]], 24)
    with torch.no_grad():
        shared = {"shared": attention.pieces(spans, torch.float64)}
        found = model.model(input_ids=ids, attention_mask=mask, use_cache=False, **shared).last_hidden_state
        model.set_attn_implementation("sdpa")
        expected = model.model(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_window_of_one_prompt_and_completion_shares_the_prompt(tmp_path, monkeypatch):
    """A pack of several completions is longer than the window, but no token attends to more than its window."""
    family = {"head_dim": 8, "sliding_window": 44, "num_hidden_layers": 2}
    save_architecture(tmp_path, "gemma3_text", family | {"layer_types": ["sliding_attention", "full_attention"]})
    packs = packed([[(20, 24), (20, 9), (20, 16)]])

    def policy():
        settings = ModelSettings(name=str(tmp_path), context=44, round_tokens=24, dtype="float64", device="cpu")
        return load_policy(settings, 0)

    expected, expected_gradients = outcome(policy(), packs, dense=True)
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *args, **options: pytest.fail("dense attention"))
    logprobs, gradients = outcome(policy(), packs)
    torch.testing.assert_close(logprobs, expected, rtol=0, atol=1e-10)
    for found, oracle in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, oracle, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_spans_cover_every_token_once_and_waste_less_than_half(seed):
    rng = random.Random(seed)
    prompts = [rng.randint(1, 90) for _ in range(7)]
    completions = [[rng.randint(0, 60) for _ in range(rng.randint(1, 6))] for _ in prompts]
    width = 500
    found = packing.spans(prompts, completions, width)
    places = [
        place
        for span in found
        for place in (span.place if span.real is None else span.place[span.real.flatten()]).tolist()
    ]
    lengths = [prompt + sum(group) for prompt, group in zip(prompts, completions, strict=True)]
    assert sorted(places) == [row * width + place for row, length in enumerate(lengths) for place in range(length)]
    assert sum(len(span.place) for span in found) < 2 * len(places)


def test_the_number_of_tokens_in_a_span_is_bounded(monkeypatch):
    """The keys of a long prompt are repeated for each of its completions, but for a limited number at a time."""
    monkeypatch.setattr(packing, "SPAN_TOKENS", 1000)
    found = packing.spans([300], [[10] * 50], 800)
    assert [span.rows for span in found] == [1] + [3] * 16 + [2]
    assert all(span.rows * (span.prompt + len(span.place) // span.rows) <= 1000 for span in found)


def test_one_copy_of_a_prompt_is_kept_for_the_backward_pass(folder):
    """Memory saved by autograd grows with the number of tokens, not with completions x prompt length."""

    def held(completions: int) -> int:
        with kept_for_backward() as kept:
            tiny_policy(folder).completion_logprobs(packed([[(80, 2)] * completions]))
        return sum(tensor.numel() for tensor in kept if tensor.dim() == 4)

    four, eight, twelve = held(4), held(8), held(12)
    assert twelve - eight == eight - four < four
