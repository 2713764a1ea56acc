"""Estimates against instantiated models, PyTorch's FLOP counter, and the tensors that autograd keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Gemma3TextConfig, Qwen2Config

from src import run
from src.config import compose
from src.engines.local.sampling import draw
from src.estimating import fitting, operations
from src.estimating.available import available
from src.estimating.fitting import bounded, check_memory, refusal
from src.estimating.memory import Job, activation_bytes, demand, logit_bytes, weight_bytes
from src.estimating.shape import shape_of
from src.estimating.time import Device, decoding_step, writing
from src.models.gradient_checkpointing import recompute
from src.models.loading import blueprint, load_codec, load_policy
from src.models.policy import Policy, token_logprobs
from src.models.quantization import check_quantization
from src.models.settings import Lora, ModelSettings
from src.solve import solve
from src.types import InputError, Row
from tests.helpers.live_tensors import most_bytes
from tests.helpers.tiny_models import kept_for_backward

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SMALL = Qwen2Config(
    vocab_size=500,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=2,
    tie_word_embeddings=False,
)
GEMMA = Gemma3TextConfig(  # a layer of gemma-3-270m, with few layers and tokens
    vocab_size=500,
    hidden_size=640,
    intermediate_size=2048,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
    sliding_window=512,
)
QWEN_3B = Qwen2Config(  # as published with Qwen2.5-3B-Instruct
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=11008,
    num_hidden_layers=36,
    num_attention_heads=16,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
TINY = ModelSettings(name="embedded:tiny", context=512, round_tokens=40, device="cpu", lora=Lora(r=8, alpha=8))


def meta(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def model(dtype="float32", r=8, quantization=None):
    lora = Lora(r=r, alpha=r) if r else None
    return ModelSettings(
        name="x", context=2048, round_tokens=1024, dtype=dtype, device="cpu", lora=lora, quantization=quantization
    )


def test_solve_refuses_a_model_that_cannot_fit_before_weights_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "available", lambda device, lent: 1000)
    monkeypatch.setattr(run, "load_policy", lambda *arguments, **options: pytest.fail("weights were loaded"))
    with pytest.raises(InputError, match="are available"):
        solve(compose("solve", ["model=tiny", "question=7 + 5"]), Path())


def test_published_parameter_counts_of_qwen():
    shape = shape_of(meta(QWEN_3B))
    assert round(shape.parameters / 1e9, 2) == 3.09
    assert round((shape.parameters - shape.vocabulary * shape.hidden) / 1e9, 2) == 2.77  # "non-embedding" on its card


def test_estimated_parameters_are_those_of_the_loaded_model():
    shape, policy = shape_of(blueprint(TINY)), load_policy(TINY, 0)
    trained = sum(parameter.numel() for parameter in policy.parameters())
    assert shape.adapter(8, TARGETS) == trained
    assert shape.parameters == sum(parameter.numel() for parameter in policy.model.parameters()) - trained
    assert weight_bytes(shape, TINY) == shape.parameters * 4


@pytest.mark.parametrize("r", [8, 0])
def test_operations_equal_pytorchs_flop_counter(r):
    torch.manual_seed(0)
    shape = shape_of(meta(SMALL))
    network = AutoModelForCausalLM.from_config(SMALL, attn_implementation="eager")
    network = get_peft_model(network, LoraConfig(r=r, target_modules=list(TARGETS))) if r else network
    plain = network.get_base_model() if r else network
    tokens = 32
    ids = torch.randint(0, 500, (1, tokens))
    with FlopCounterMode(display=False) as counter:
        logits = plain(input_ids=ids, use_cache=False).logits
    ahead = counter.get_total_flops()
    adapter = shape.adapter(r, TARGETS) if r else 0
    assert ahead == operations.forward(shape, tokens, tokens, tokens, adapter)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(logits.sum())
    whole = ahead + counter.get_total_flops()
    # eager attention keeps its scores (3 x instead of 3.5 x), and with frozen embeddings the first layer's inputs need
    # no gradient
    attention = 4 * shape.attended * tokens * shape.layers * tokens
    first = 2 * tokens * 64 * (64 + 2 * 16 + 3 * r) if r else 0
    expected = operations.training(shape, tokens, tokens, tokens, adapter, chunked=False)
    assert whole == expected - 0.5 * attention - first


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(
    ("family", "device"), [(SMALL, "cpu"), (SMALL, "cuda"), (GEMMA, "cpu")], ids=["qwen-cpu", "qwen-cuda", "gemma-cpu"]
)
@pytest.mark.parametrize(("dtype", "r"), [("float32", 8), ("float32", 0), ("bfloat16", 8)])
def test_activations_equal_the_bytes_that_autograd_keeps(family, dtype, r, device, checkpointed):
    """The GPU case is tested on the CPU with the attention implementation that the policy uses on a GPU."""
    row = Row((1,) * 24, (1,) * 40, (0.0,) * 40, 1.0, 1.0, 1.0, 0, (0,))

    def sized(layers):
        return type(family)(**{**family.to_dict(), "num_hidden_layers": layers, "layer_types": None})

    def kept(layers):
        network = AutoModelForCausalLM.from_config(sized(layers), dtype=getattr(torch, dtype))
        if checkpointed:
            recompute(network)
        network = get_peft_model(network, LoraConfig(r=r, target_modules=list(TARGETS))) if r else network
        policy = Policy(network, load_codec(TINY), "")
        if device == "cuda":
            policy.model.set_attn_implementation("sdpa")
            policy._shares = False
        weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        with kept_for_backward() as found:
            policy.completion_logprobs([[row]])
        sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in found}
        return sum(size for address, size in sizes.items() if address not in weights)

    def estimated(layers):
        settings = model(dtype, r).replace(device=device, gradient_checkpointing=checkpointed)
        return activation_bytes(shape_of(meta(sized(layers))), settings, 64)

    assert kept(3) - kept(2) == pytest.approx(estimated(3) - estimated(2), rel=0.01)


def test_logits_of_all_rows_are_counted_in_sampling():
    vocabulary, rows = 262144, 40
    shape = shape_of(meta(Gemma3TextConfig(**{**GEMMA.to_dict(), "vocab_size": vocabulary})))
    settings = model().replace(round_tokens=160)
    need = demand(shape, Job(settings, cache_tokens=rows * 160))
    assert need.peak == need.resident + need.merging + need.cache + need.sampling
    logits, ones = torch.zeros(rows, vocabulary), torch.ones(rows, dtype=torch.float64)
    more = most_bytes(lambda: draw(logits, 0.8 * ones, ones, 0.5 * ones), [logits, ones])
    assert need.sampling == pytest.approx(logits.nbytes + more, rel=0.01)


def test_a_trained_head_has_gradients_of_pieces():
    vocabulary, width, tokens = 262144, 192, 192  # three pieces
    weight = torch.zeros(vocabulary, width, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    hidden, ones = torch.zeros(tokens, width, requires_grad=True), torch.ones(tokens)

    def step():
        torch.autograd.backward(token_logprobs(hidden, lambda x: x @ weight.T, ones.long(), ones)[0].sum())

    shape = shape_of(meta(Gemma3TextConfig(**{**GEMMA.to_dict(), "vocab_size": vocabulary, "hidden_size": width})))
    assert logit_bytes(shape, model(r=None), tokens) == pytest.approx(
        most_bytes(step, [weight, weight.grad, hidden, ones]), rel=0.001
    )
    assert logit_bytes(shape, model(), tokens) == 5 * 4 * 2**24


def test_bytes_of_4_bit_weights_equal_those_of_bitsandbytes():
    functional = pytest.importorskip("bitsandbytes").functional
    packed, state = functional.quantize_4bit(torch.randn(1024, 1024), quant_type="nf4", compress_statistics=True)
    scales = state.absmax.nbytes + state.state2.absmax.nbytes
    shape = shape_of(meta(SMALL))
    rest = 2 * (shape.parameters - shape.body)
    share = (weight_bytes(shape, model("bfloat16", quantization="nf4")) - rest) / shape.body
    assert share == pytest.approx((packed.nbytes + scales) / 1024**2, rel=1e-4)


def test_memory_of_the_papers_model_computed_by_hand():
    shape = shape_of(meta(QWEN_3B))
    r = 64
    need = demand(shape, Job(model("bfloat16", r, "nf4"), cache_tokens=65536, micro_batch_tokens=4096))
    # 36 layers of q, o: 2048 x 2048; k, v: 2048 x 256; gate, up, down: 2048 x 11008
    adapter = 36 * r * (2 * 4096 + 2 * 2304 + 3 * 13056)
    assert need.adapter == need.gradients == 4 * adapter
    assert need.optimizer == 8 * adapter
    assert need.cache == (65536 + 8192) * 36 * 2 * 2 * 128 * 2  # cache of rows, and of reusable prefixes
    assert need.merging == 0  # an adapter is not merged into 4-bit weights
    assert need.peak == need.resident + need.activations + need.logits
    assert 1.9e9 < need.weights < 2.2e9


def test_a_job_that_cannot_fit_is_refused(monkeypatch):
    whole = TINY.replace(lora=None)
    job = Job(whole, cache_tokens=4096, micro_batch_tokens=4096)
    shape = shape_of(blueprint(whole))
    static = 4 * 4 * shape.parameters  # weights, gradients and two moments in single precision
    monkeypatch.setattr(fitting, "available", lambda device, lent: static)
    with pytest.raises(InputError, match=r"needs at least [\d.]+ MiB on cpu \(weights .* are available"):
        check_memory(job)
    monkeypatch.setattr(fitting, "available", lambda device, lent: None)
    check_memory(job)  # unknown free memory: nothing is refused


def test_a_job_that_may_not_fit_gets_a_warning(monkeypatch, caplog):
    job = Job(TINY, cache_tokens=65536, micro_batch_tokens=4096)
    shape = shape_of(blueprint(TINY))
    free = demand(shape, job).peak / 2
    monkeypatch.setattr(fitting, "available", lambda device, lent: free)
    check_memory(job)
    settings = dict(text.split("=") for text in bounded(shape, job, free))
    assert settings
    assert all(f"{key}={value}" in caplog.text for key, value in settings.items())
    changed = Job(
        TINY,
        int(settings.get("engine.max_batch_tokens", 65536)),
        int(settings.get("train.micro_batch_tokens", 4096)),
    )
    assert demand(shape, changed).peak <= free


def test_a_refusal_suggests_only_settings_that_fit():
    shape = shape_of(meta(QWEN_3B))
    job = Job(model("float32", 64), 65536, 4096)
    assert ": model.dtype=bfloat16 (" in refusal(shape, job, 12 * 2**30)
    text = refusal(shape, job, 6 * 2**30)
    assert ": model.dtype=bfloat16 (" not in text
    assert "model.quantization=nf4 model.dtype=bfloat16 (" in text
    assert refusal(shape, job, 2**30).endswith("What would fit: a smaller model")


def test_available_memory_respects_control_group_limits(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 900 kB\nMemAvailable:   800 kB\nSwapFree: 100 kB\n")
    assert available("cpu", root=tmp_path) == 900 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    group = tmp_path / "sys/fs/cgroup/a"
    (group / "b").mkdir(parents=True)
    (group / "b/memory.max").write_text("max\n")
    for name, text in (("max", "5000\n"), ("current", "4000\n"), ("stat", "anon 10\nfile 700\n")):
        (group / f"memory.{name}").write_text(text)
    assert available("cpu", root=tmp_path) == 5000 - 4000 + 700
    assert available("cpu", root=tmp_path / "elsewhere") is None


def test_decoding_is_limited_by_bandwidth_with_few_rows_and_by_flops_with_many():
    shape, settings = shape_of(meta(QWEN_3B)), model("bfloat16", 8)
    device = Device("x", 1e11, 1e14, 1e12, flops_share=1, bandwidth_share=1, step_seconds=0)
    assert decoding_step(shape, settings, device, 1, 0) == shape.parameters * 2 / 1e12
    many = operations.forward(shape, 4096, 0, 4096, shape.adapter(8, TARGETS)) / 1e14
    assert decoding_step(shape, settings, device, 4096, 0) == many
    once = writing(shape, settings, device, 8, 100, 50, 8 * 150)
    assert 1.9 * once < writing(shape, settings, device, 16, 100, 50, 8 * 150) < 2.01 * once


def test_quantization_is_tested_on_the_device_that_it_would_run_on(monkeypatch):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    assert check_quantization("nf4", "cpu", torch.float32) == []

    def broken(*arguments, **options):
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", broken)
    (error,) = check_quantization("nf4", "cpu", torch.float32)
    assert "cannot compute on cpu here (no kernel for this device); use model.quantization=null" in error
