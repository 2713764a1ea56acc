from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from src.config import build
from src.engines.local import native, sampling
from src.engines.local.batch import uniforms
from src.engines.local.engine import LocalEngine
from src.engines.local.native import Kernels, NativeError, compiled
from src.engines.local.settings import Local
from src.types import InputError, Sampling, Turn
from tests.helpers.sections import mistakes
from tests.helpers.tiny_models import save_tiny, tiny_policy

DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-8}
"""Largest error relative to the largest value: rounding of sums and of the result."""


@pytest.fixture(scope="module")
def kernels():
    return Kernels()


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(result, expected, dtype):
    assert float((result.double() - expected.double()).abs().max()) <= TOLERANCE[dtype] * float(expected.abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 19, 64])
def test_norm(kernels, dtype, size):
    x, delta, weight = normal(5, size), normal(5, size, seed=1, dtype=dtype), normal(size, seed=2, dtype=dtype)
    for added in (None, delta):
        stream, out = x.clone(), torch.empty(5, size, dtype=dtype)
        kernels.norm(added, stream, weight, 0.1, out)
        total = x if added is None else x + added.float()
        assert torch.equal(stream, total)
        assert_near(out, torch.nn.functional.rms_norm(total.double(), (size,), weight.double(), 0.1), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu(kernels, dtype):
    gate_up = 4 * normal(7, 2 * 37, dtype=dtype)
    gate_up[0, :4] = torch.tensor([-200.0, 200.0, -80.0, 0.0])
    gate, up = gate_up.double().chunk(2, dim=-1)
    out = kernels.swiglu(gate_up, torch.empty(7, 37, dtype=dtype))
    assert_near(out, torch.nn.functional.silu(gate) * up, dtype)
    assert out[0, 0] == 0


@pytest.mark.parametrize("rows", [1, 3, 8, 9, 30])
@pytest.mark.parametrize("biased", [False, True])
def test_products_with_packed_weights(kernels, rows, biased):
    dtype = torch.bfloat16
    x, weight = normal(rows, 38, dtype=dtype), normal(96, 38, seed=1, dtype=dtype)
    if not kernels.multiplies(weight):
        pytest.skip("this processor has no AVX512-BF16, or has AMX, where torch is used instead")
    bias = normal(96, seed=2, dtype=dtype) if biased else None
    product = kernels.multiply(x, kernels.packed(weight), bias)
    expected = x.double() @ weight.double().T + (bias.double() if biased else 0)
    assert_near(product, expected, dtype)
    for row in range(rows):  # a row's result is bit-identical whatever the other rows
        assert torch.equal(kernels.multiply(x[row : row + 1], kernels.packed(weight), bias)[0], product[row])
    assert not kernels.multiplies(weight[:95])
    assert not kernels.multiplies(weight[:, :37])
    assert not kernels.multiplies(weight.float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_low_rank_products_side_by_side(kernels, dtype):
    """LoRA products of different ranks and widths, one of them of rank 0 (no adapter)."""
    rows, size, sizes = 5, 23, [(4, 17), (0, 6), (3, 40)]
    x, out = normal(rows, size, dtype=dtype), normal(rows, 63, seed=1, dtype=dtype)
    downs = [normal(rank, size, seed=2 + index, dtype=dtype) for index, (rank, _) in enumerate(sizes)]
    ups = [normal(width, rank, seed=5 + index, dtype=dtype) for index, (rank, width) in enumerate(sizes)]
    products = [x.double() @ down.double().T @ up.double().T for down, up in zip(downs, ups, strict=True)]
    expected = out.double() + torch.cat(products, dim=1)
    columns, flat = torch.cat(downs).T.contiguous(), torch.cat([up.T.flatten() for up in ups])
    result = kernels.low_rank(x, columns, flat, torch.tensor(sizes).T.contiguous(), out)
    assert result is out
    assert_near(result, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "groups", "size", "width"),
    [(4, 4, 8, 12), (6, 2, 10, 12), (3, 1, 64, 12), (9, 3, 64, 75), (6, 1, 64, 130), (10, 2, 128, 75)],
)
@pytest.mark.parametrize("place", [0.0, 0.3, 1.0])
def test_attention_over_a_ring_buffer(kernels, dtype, heads, groups, size, width, place):
    """Against attention over each row's tokens in order; columns outside a row's tokens hold NaN and must be unused."""
    rows, column = 6, int(place * (width - 1))
    positions = torch.tensor([0, 1, 5, width // 2, width - 2, width - 1])
    qkv = normal(rows, heads + 2 * groups, size, dtype=dtype)
    keys, values = (normal(rows, groups, width, size, seed=seed, dtype=dtype) for seed in (1, 2))
    for row, position in enumerate(positions.tolist()):
        for back in range(position + 1, width):
            keys[row, :, (column - back) % width] = values[row, :, (column - back) % width] = torch.nan
    ring = keys.transpose(2, 3).contiguous(), values.clone()
    angles = normal(width, size, seed=3)
    cos, sin = angles.cos(), angles.sin()
    out = torch.empty(rows, heads, size, dtype=dtype)
    kernels.attend(qkv, (cos, sin), positions, ring[0].transpose(2, 3), ring[1], column, out)

    x = qkv.double()
    turned = x * cos[positions, None] + x.roll(size // 2, -1) * sin[positions, None]
    turned[:, heads:] = turned[:, heads:].to(dtype)  # keys are stored in the cache's dtype
    expected = torch.zeros(rows, heads, size, dtype=torch.float64)
    for row, position in enumerate(positions.tolist()):
        past = [(column - back) % width for back in range(position, 0, -1)]
        for head in range(heads):
            group = head * groups // heads
            own = torch.cat([keys[row, group, past].double(), turned[row, heads + group : heads + group + 1]])
            added = torch.cat([values[row, group, past].double(), x[row, heads + groups + group :][:1]])
            expected[row, head] = (own @ turned[row, head] / size**0.5).softmax(-1) @ added
    assert_near(out, expected, dtype)

    keys[:, :, column], values[:, :, column] = turned[:, heads : heads + groups].to(dtype), qkv[:, -groups:]
    assert_near(ring[0].transpose(2, 3).nan_to_num(), keys.nan_to_num(), dtype)
    assert torch.equal(ring[1].nan_to_num(), values.nan_to_num())


@pytest.mark.parametrize(("heads", "groups", "size"), [(9, 3, 64), (7, 1, 64), (14, 2, 64), (8, 2, 128), (4, 4, 64)])
@pytest.mark.parametrize(
    ("lengths", "known"),
    [
        ([1], [0]),
        ([1, 37, 2, 128], [0, 0, 0, 0]),
        ([129], [0]),
        ([300, 33], [0, 0]),
        ([37, 64, 300, 301], [36, 0, 1, 140]),
    ],
)
def test_attention_inside_prompts(kernels, heads, groups, size, lengths, known):
    """Only new tokens are computed; keys and values of the cached prefix (``known`` tokens) are used and unchanged."""
    dtype = torch.bfloat16
    if not kernels.reads(dtype, size):
        pytest.skip("this processor has no AVX512-BF16, or has AMX, where torch is used instead")
    qkv = normal(sum(lengths), heads + 2 * groups, size, dtype=dtype)
    angles = normal(max(lengths), size, seed=3)
    cos, sin = angles.cos(), angles.sin()
    expected, turned_keys = [], []
    new = torch.cat([torch.arange(length) >= count for length, count in zip(lengths, known, strict=True)])
    for prompt in torch.split(qkv.double(), lengths):
        tokens = len(prompt)
        turned = prompt * cos[:tokens, None] + prompt.roll(size // 2, -1) * sin[:tokens, None]
        keys = turned[:, heads : heads + groups].to(dtype)
        each = [part.repeat_interleave(heads // groups, 1) for part in (keys.double(), prompt[:, -groups:])]
        scores = torch.einsum("qhd,khd->hqk", turned[:, :heads], each[0]) / size**0.5
        ahead = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(ahead, -torch.inf).softmax(-1)
        expected.append(torch.einsum("hqk,khd->qhd", weights, each[1]))
        turned_keys.append(keys)
    keys, values = torch.cat(turned_keys), qkv[:, -groups:]
    cached = [torch.where(new[:, None, None], torch.nan, tensor) for tensor in (keys, values)]
    out = torch.full((int(new.sum()), heads, size), torch.nan, dtype=dtype)
    kernels.read(qkv[new], (cos, sin), torch.tensor(lengths), torch.tensor(known), *cached, out)
    assert_near(out, torch.cat(expected)[new], dtype)
    assert_near(cached[0], keys, dtype)
    assert torch.equal(cached[0][~new], keys[~new])
    assert torch.equal(cached[1], values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [5, 329, 3000])
def test_sampling_agrees_with_torch(kernels, dtype, size):
    rng = random.Random(size)
    rows = 400
    logits = (3 * normal(rows, size)).to(dtype)
    logits[:50] = logits[:50].round()  # ties
    logits[50:60, :3] = -torch.inf
    temperature = torch.tensor([rng.choice((0.0, 0.5, 1.0, 1.0, 1.3)) for _ in range(rows)], dtype=torch.float64)
    top_p = torch.tensor([rng.choice((0.001, 0.3, 0.9, 0.999, 1.0, 1.0)) for _ in range(rows)], dtype=torch.float64)
    uniform = torch.from_numpy(uniforms(1, rows))
    tokens, logprobs, at_one = kernels.draw(logits, temperature, top_p, uniform)
    exact, expected, expected_at_one = sampling.draw(logits.double(), temperature, top_p, uniform)
    assert (tokens != exact).sum() <= 2  # a uniform number at the boundary between two tokens
    same = tokens == exact
    np.testing.assert_allclose(logprobs[same], expected[same], atol=3e-6)
    np.testing.assert_allclose(at_one[same], expected_at_one[same], atol=3e-6)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("top_p", [0.8, 1.0])
def test_token_frequencies(kernels, temperature, top_p):
    logits = [1.5, -0.3, 0.2, 2.1, -1.0, 0.9, 0.0, 1.1, -40.0]
    count = 40_000
    columns = [torch.full((count,), value, dtype=torch.float64) for value in (temperature, top_p)]
    tokens, *_ = kernels.draw(torch.tensor([logits]).expand(count, -1), *columns, torch.from_numpy(uniforms(7, count)))
    shares = np.exp(np.array(logits) / temperature)
    shares /= shares.sum()
    order = np.argsort(-shares)
    shares[order[1:][shares[order].cumsum()[:-1] >= top_p]] = 0
    shares[8] = 0
    counts = np.bincount(tokens, minlength=9)
    assert counts[shares == 0].sum() == 0
    possible = shares > 0
    assert chisquare(counts[possible], shares[possible] / shares.sum() * count).pvalue > 1e-3


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_a_token_of_probability_zero_is_never_sampled(kernels, uniform, top_p):
    logits = torch.full((1, 300), -torch.inf)
    logits[0, [130, 131, 200]] = torch.tensor([0.0, 1.0, 0.5])
    one = torch.ones(1, dtype=torch.float64)
    tokens, *_ = kernels.draw(logits, one, top_p * one, uniform * one)
    assert tokens.tolist() == ([130] if uniform == 0 else [200])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_give_a_log_prob_that_is_not_finite(kernels, value, temperature):
    logits = normal(2, 200)
    logits[1, 17] = value
    one = torch.ones(2, dtype=torch.float64)
    tokens, logprobs, at_one = kernels.draw(logits, temperature * one, one, 0.5 * one)
    assert logprobs.isfinite().tolist() == at_one.isfinite().tolist() == [True, False]
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < 200


def test_results_do_not_depend_on_the_number_of_threads(kernels):
    logits, one = normal(50, 3000), torch.ones(50, dtype=torch.float64)
    uniform = torch.from_numpy(uniforms(3, 50))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(kernels.draw(logits, one, 0.9 * one, uniform))
    finally:
        torch.set_num_threads(threads)
    for tokens, *logprobs in results:
        assert torch.equal(tokens, results[0][0])
        assert all(map(torch.equal, logprobs, results[0][1:]))


# with and without a compiler


@pytest.fixture
def small_source(tmp_path, monkeypatch):
    """A source that compiles in a moment, in place of ``native.cpp``."""
    source = tmp_path / "small.cpp"
    source.write_text('extern "C" int one() { return 1; }\n', encoding="utf-8")
    monkeypatch.setattr(native, "SOURCE", source)
    return source


def test_the_source_is_compiled_once_and_again_after_a_change(tmp_path, monkeypatch, small_source):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = compiled()
    before = library.stat()
    assert compiled() == library
    assert library.stat().st_mtime_ns == before.st_mtime_ns
    assert {file.suffix for file in library.parent.iterdir()} == {".so", ".sha256"}
    small_source.write_text(small_source.read_text() + "\n")
    assert compiled() != library


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def broken_compiler(monkeypatch, tmp_path):
    script = tmp_path / "cxx"
    script.write_text("#!/bin/sh\necho 'no such processor' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))


@pytest.mark.parametrize(
    ("state", "why"), [("no_compiler", "no C.. compiler"), ("broken_compiler", "no such processor")]
)
def test_without_a_compiler_the_engine_warns_and_uses_torch(state, why, request, tmp_path_factory, caplog):
    request.getfixturevalue(state)
    policy = tiny_policy(save_tiny(tmp_path_factory.mktemp("tiny")))
    turns = [Turn((index,), (5, 6, 7 + index), Sampling(8), stream=index) for index in range(6)]
    with pytest.raises(NativeError, match=why):
        compiled()
    with pytest.raises(InputError, match=f"engine.native=true: .*{why}"):
        LocalEngine(policy, native=True).generate(turns, lambda turn: ())
    written = LocalEngine(policy, native="auto").generate(turns, lambda turn: ())
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("src.engines")]
    assert message.startswith("engine.native=auto: compiled kernels are unavailable")
    assert "\n" not in message
    assert written == LocalEngine(policy, native=False).generate(turns, lambda turn: ())


def test_a_cache_folder_that_cannot_be_written_raises_native_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NativeError):
        compiled()


def test_a_library_that_cannot_be_loaded_raises_native_error(tmp_path, monkeypatch):
    (tmp_path / "broken.so").write_text("no library")
    monkeypatch.setattr(native, "compiled", lambda: tmp_path / "broken.so")
    with pytest.raises(NativeError, match=r"broken\.so cannot be loaded"):
        Kernels()


def test_native_true_refuses_a_dtype_without_kernels(tmp_path):
    policy = tiny_policy(save_tiny(tmp_path), "float64")
    turn = Turn((0,), (5,), Sampling(2))
    with pytest.raises(InputError, match=r"engine\.native=true: .*float64"):
        LocalEngine(policy, native=True).generate([turn], lambda turn: ())


@pytest.mark.parametrize("value", ["fast", "", None])
def test_an_unknown_value_of_native_is_refused(value):
    with pytest.raises(InputError) as caught:
        build({"native": value}, Local, "engine")
    assert caught.value.problems == (f"engine.native={value!r}: must be true or false or auto",)


@pytest.mark.parametrize("value", ["auto", True, False])
def test_the_engine_is_built_from_its_settings(value):
    settings = build({"native": value, "max_batch_tokens": 77}, Local, "engine")
    engine = settings.build("weights", "model")
    assert (engine.weights, engine.max_batch_tokens, engine.native) == ("weights", 77, value)
    assert settings.cache_tokens == 77
    assert mistakes(Local, "engine", max_batch_tokens=0) == ["engine.max_batch_tokens=0 must be 1 or more"]


def test_a_cache_that_others_can_write_to_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "motif-lab").mkdir()
    (tmp_path / "motif-lab").chmod(0o777)
    with pytest.raises(NativeError, match="can be written by other users"):
        compiled()


def test_the_cache_is_closed_to_others(tmp_path, monkeypatch, small_source):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled().parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("fault", ["other content", "no checksum", "link", "open to others"])
def test_a_cached_library_that_was_changed_is_compiled_again(fault, tmp_path, monkeypatch, small_source):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = compiled()
    content = library.read_bytes()
    if fault == "other content":
        library.write_bytes(b"planted")
    elif fault == "no checksum":
        library.with_suffix(".sha256").unlink()
    elif fault == "link":
        library.rename(tmp_path / "elsewhere.so")
        library.symlink_to(tmp_path / "elsewhere.so")
    else:
        library.chmod(0o777)
    before = library.lstat().st_ino
    assert compiled() == library
    assert library.lstat().st_ino != before
    assert not library.is_symlink()
    assert library.read_bytes()[:4] == content[:4] == b"\x7fELF"
