from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from src.engines.local import cache
from src.engines.local.batch import PREFIXES, Batch
from src.engines.local.cache import Prefix, Prefixes
from src.engines.local.engine import LocalEngine
from src.engines.local.llama import LlamaDecoder
from src.engines.local.native import Kernels
from src.types import Sampling, Turn, Writer
from tests.helpers.tiny_models import save_tiny, tiny_policy
from tests.unit.engines.test_local_engine import (
    SHAPE,
    Bare,
    LlamaConfig,
    LlamaForCausalLM,
    assert_same_turns,
    by_path,
    no_children,
)


@pytest.fixture(autouse=True)
def any_length(monkeypatch):
    """Cache prefixes of any length."""
    monkeypatch.setattr(cache, "SHORTEST", 1)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    return tiny_policy(save_tiny(tmp_path_factory.mktemp("tiny")), "float64")


def family(rng: random.Random, count: int, sizes: int = 3) -> list[tuple[int, ...]]:
    """Prompts over a small vocabulary, so that many share a prefix."""
    return [tuple(rng.choices(range(3, 3 + sizes), k=rng.randint(1, 12))) for _ in range(count)]


def layers(prompt):
    """Two layers whose keys and values encode the token ids, after five tokens of another prompt."""
    tokens = torch.tensor([-1.0] * 5 + [float(token) for token in prompt])[:, None, None]
    return [(tokens + layer, -tokens - layer) for layer in (0, 100)]


@pytest.mark.parametrize("seed", range(5))
def test_the_longest_cached_prefix_is_found(seed):
    """Against a search over all cached prompts."""
    rng, prefixes = random.Random(seed), Prefixes(150)
    lengths = set()
    for prompt in family(rng, 300):
        prefix = prefixes.of(prompt)
        cached = list(prefixes.held)
        sizes = [size for size in range(1, len(prompt) + 1) if any(one[:size] == prompt[:size] for one in cached)]
        longest = max(sizes, default=0)
        assert (0 if prefix is None else prefix.count) == min(longest, len(prompt) - 1)
        if prefix is not None:
            for layer, (keys, values) in enumerate(prefix.layers):
                assert (keys[: prefix.count, 0, 0] - 100 * layer).tolist() == list(prompt[: prefix.count])
                assert torch.equal(keys, -values)
            lengths.add(prefix.count)
        prefixes.keep(prompt, layers(prompt), 5)
        assert prefixes.ordered == sorted(prefixes.held)
        assert prefixes.tokens == sum(map(len, prefixes.held)) <= 150
    assert len(lengths) > 5
    assert len(prefixes.held) < 100


def test_the_least_recently_used_prompt_is_evicted():
    prefixes = Prefixes(9)
    for prompt in ((3, 4, 5), (6, 7, 8), (9, 10, 11)):
        prefixes.keep(prompt, layers(prompt), 5)
    assert prefixes.of((3, 4, 12)).count == 2
    prefixes.keep((13, 14, 15), layers((13, 14, 15)), 5)
    assert list(prefixes.held) == [(9, 10, 11), (3, 4, 5), (13, 14, 15)]
    prefixes.keep((1,) * 10, layers((1,) * 10), 5)  # longer than the whole cache
    assert len(prefixes.held) == 3


def test_short_prefixes_are_not_cached(monkeypatch):
    monkeypatch.setattr(cache, "SHORTEST", 3)
    prefixes = Prefixes(100)
    for prompt in ((3, 4), (3, 4, 5, 6)):
        prefixes.keep(prompt, layers(prompt), 5)
    assert list(prefixes.held) == [(3, 4, 5, 6)]
    assert prefixes.of((3, 4, 9)) is None
    assert prefixes.of((3, 4, 5)) is None  # the last token is always computed, which leaves two
    assert prefixes.of((3, 4, 5, 9)).count == 3


@pytest.mark.parametrize(
    ("dtype", "compiled", "tolerance"),
    [
        (torch.float64, False, 1e-6),
        (torch.float32, False, 1e-4),
        (torch.float32, True, 1e-4),
        (torch.bfloat16, False, 2**-4),
        (torch.bfloat16, True, 2**-4),
    ],
)
@pytest.mark.parametrize("block", [7, 256])
def test_prefill_after_a_cached_prefix_equals_full_prefill(dtype, tolerance, compiled, block, monkeypatch):
    """Compares logits, keys and values of prompts of equal and different lengths, with and without a prefix."""
    monkeypatch.setattr(cache, "BLOCK", block)
    weights = Bare((LlamaConfig, LlamaForCausalLM), dtype, **SHAPE, num_key_value_heads=2, head_dim=64)
    decoder = LlamaDecoder(weights.model, Kernels() if compiled else None)
    rng = random.Random(0)
    start = [rng.randrange(3, 60) for _ in range(30)]
    sizes = [(12, 0), (20, 19), (33, 5), (33, 5), (33, 30), (33, 0), (70, 30)]
    prompts = [[*start[:known], *(rng.randrange(3, 60) for _ in range(size - known))] for size, known in sizes]
    lengths = [len(prompt) for prompt in prompts]
    ids = torch.tensor([token for prompt in prompts for token in prompt])
    with torch.inference_mode():
        _, first = decoder.prefill(torch.tensor(start), [30], [None])
        prefixes = [Prefix(known, first) if known else None for _, known in sizes]
        logits, cached = decoder.prefill(ids, lengths, prefixes)
        expected, whole = decoder.prefill(ids, lengths, [None] * len(sizes))
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits, expected, atol=tolerance * scale, rtol=0)
    for pair, other in zip(cached, whole, strict=True):
        for one, two in zip(pair, other, strict=True):
            torch.testing.assert_close(one, two, atol=tolerance * float(two.abs().max()), rtol=0)


def tree(engine, question, count=6):
    """Generate trees of three rounds in which every prompt starts with its problem's question."""
    rng = random.Random(4)

    def turn(path, prompt):
        writer = Writer.BASE if len(path) == 3 else Writer.POLICY
        return Turn(path, prompt, Sampling(8), writer=writer, stream=hash(path) % 2**64)

    def children(parent):
        if parent.round == 3:
            return []
        prompt = question[parent.path[0] % len(question)] + parent.completion
        return [turn((*parent.path, index), prompt) for index in range(2)]

    roots = [turn((index,), (*question[index % len(question)], rng.randrange(3, 40))) for index in range(count)]
    return engine.generate(roots, children)


QUESTIONS = [tuple(range(5, 35)), tuple(range(5, 20)), (7, 8) * 12]


@pytest.mark.parametrize(
    ("max_batch_tokens", "lean", "least"), [(1, True, 0), (200, True, 10), (10**6, True, 100), (10**6, False, 0)]
)
def test_a_tree_does_not_depend_on_cached_prefixes(exact, max_batch_tokens, lean, least, monkeypatch):
    """In float64, against every turn generated alone. Policy and base must not share cached prefixes."""
    monkeypatch.setattr(LocalEngine, "_kernels", None)
    counts = []
    of = Prefixes.of

    def watched(prefixes, prompt):
        prefix = of(prefixes, prompt)
        counts.append(0 if prefix is None else prefix.count)
        return prefix

    monkeypatch.setattr(Prefixes, "of", watched)
    if not lean:
        monkeypatch.setattr(LlamaDecoder, "fits", staticmethod(lambda model: False))
    written = tree(LocalEngine(exact, max_batch_tokens), QUESTIONS)
    assert len(by_path(written)) == 6 + 12 + 24
    assert sum(counts) >= least
    assert (sum(counts) > 0) == (least > 0)
    alone = LocalEngine(exact)
    for turn in written:
        fresh = replace(turn, status=type(turn.status).OPEN, completion=(), logprobs=(), text="")
        assert_same_turns([turn], alone.generate([fresh], no_children))


def test_the_prefix_cache_stays_within_its_share_of_the_budget(exact, monkeypatch):
    most = 0
    sample = Batch.sample

    def watched(batch, on_token):
        nonlocal most
        assert batch.prefixes.tokens <= PREFIXES * batch.budget
        most = max(most, batch.prefixes.tokens)
        return sample(batch, on_token)

    monkeypatch.setattr(Batch, "sample", watched)
    tree(LocalEngine(exact, 400), QUESTIONS)
    assert 25 < most <= 50
