from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from src.config import compose, resume
from src.engines.local.engine import LocalEngine
from src.models import settings
from src.models.gradient_checkpointing import recompute
from src.models.loading import load_codec, load_policy
from src.models.settings import Lora, ModelSettings, adapter_folder, location
from src.models.tokenizer import TokenizerCodec
from src.models.weights import weights_hash
from src.train import train
from src.training import checkpoint
from src.types import InputError, Sampling, Turn, Writer
from tests.conftest import run_small
from tests.helpers.sections import mistakes, run_mistakes
from tests.helpers.tiny_models import (
    adapted,
    kept_for_backward,
    plain_logprobs,
    random_rows,
    save_tiny,
    tiny_config,
    tiny_policy,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def policy(folder):
    return tiny_policy(folder)


def adapter(policy):
    return {name: p.detach().clone() for name, p in policy.model.named_parameters() if "lora_" in name}


# hashes


def test_the_hash_is_stable(folder, policy):
    first = weights_hash(policy.model.named_parameters())
    assert weights_hash(policy.model.named_parameters()) == first
    assert weights_hash(tiny_policy(folder).model.named_parameters()) == first
    assert len(first) == 64


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "layers.1.mlp.down_proj.base_layer.weight", "q_proj.base_layer.bias"]
)
def test_the_hash_changes_with_one_number(policy, name):
    before = weights_hash(policy.model.named_parameters())
    parameter = next(p for full, p in policy.model.named_parameters() if full.endswith(name))
    value = parameter.data.view(-1)[3].clone()
    parameter.data.view(-1)[3] = torch.nextafter(value, value + 1)
    assert weights_hash(policy.model.named_parameters()) != before
    parameter.data.view(-1)[3] = value
    assert weights_hash(policy.model.named_parameters()) == before


def test_the_hash_sees_names_shapes_and_types():
    zeros = torch.nn.Parameter(torch.zeros(2, 3))

    def digest(**parameters):
        return weights_hash(parameters.items())

    variants = [
        digest(a=zeros),
        digest(b=zeros),
        digest(a=torch.nn.Parameter(torch.zeros(3, 2))),
        digest(a=torch.nn.Parameter(torch.zeros(2, 3, dtype=torch.int32), requires_grad=False)),
        digest(a=zeros, b=torch.nn.Parameter(torch.zeros(2, 3))),
    ]
    assert len(set(variants)) == len(variants)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_the_base_hash_excludes_the_adapter(folder, dtype):
    policies = [load_policy(tiny_config(folder, dtype), seed) for seed in (0, 1)]
    assert policies[0].base_hash == policies[1].base_hash
    fresh = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    assert policies[0].base_hash == weights_hash(fresh.named_parameters())
    assert fresh.dtype == getattr(torch, dtype)


def test_the_trained_hash_covers_only_the_adapter(folder, policy):
    first = policy.trained_hash()
    assert tiny_policy(folder).trained_hash() == first
    assert tiny_policy(folder, seed=1).trained_hash() != first
    base = policy.model.get_base_model().lm_head.weight
    base.data[0, 0] += 1
    assert policy.trained_hash() == first
    policy.parameters()[3].data[0, 0] += 1
    assert policy.trained_hash() != first


# initial adapter


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_the_seed_fixes_the_adapter(folder, seed):
    first = load_policy(tiny_config(folder), seed)
    torch.rand(7)
    second = load_policy(tiny_config(folder), seed)
    assert adapter(first).keys() == adapter(second).keys()
    for name, value in adapter(first).items():
        assert torch.equal(adapter(second)[name], value)


def test_another_seed_gives_another_adapter(folder):
    starts = [adapter(load_policy(tiny_config(folder), seed)) for seed in (0, 1, 2)]
    for name in starts[0]:
        if "lora_A" in name:
            assert not torch.equal(starts[0][name], starts[1][name])
            assert not torch.equal(starts[1][name], starts[2][name])


def test_a_new_adapter_does_not_change_the_logits(folder):
    fresh = tiny_policy(folder, "float64", adapt=False)
    for name, value in adapter(fresh).items():
        assert bool(value.any()) == ("lora_A" in name)
    prompt, completion = (5, 6, 7), (8, 9, 10)
    with torch.no_grad():
        policy = plain_logprobs(fresh, prompt, completion, 1.0)
        base = plain_logprobs(fresh, prompt, completion, 1.0, base=True)
    assert torch.equal(policy, base)


def test_only_the_adapter_is_trained(policy):
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trained == set(adapter(policy))
    assert len(policy.parameters()) == len(trained) == 2 * 7 * 2  # A and B, seven projections, two layers


def test_the_adapter_has_the_configured_targets_and_rank(folder):
    config = tiny_config(folder).replace(lora=Lora(r=3, alpha=6, targets=("q_proj", "v_proj")))
    shapes = {name: tuple(p.shape) for name, p in load_policy(config, 0).model.named_parameters() if "lora_" in name}
    assert len(shapes) == 8
    for name, shape in shapes.items():
        assert "q_proj" in name or "v_proj" in name
        assert 3 in shape


def test_a_saved_adapter_loads_with_equal_weights(folder, policy, tmp_path):
    policy.save(tmp_path)
    resumed = load_policy(tiny_config(folder), 5, saved=tmp_path)
    started = load_policy(tiny_config(folder).replace(adapter=str(tmp_path / "adapter")), 5)
    replaced = load_policy(tiny_config(folder), 6)
    replaced.load(tmp_path)
    for other in (resumed, started, replaced):
        assert adapter(other).keys() == adapter(policy).keys()
        for name, value in adapter(policy).items():
            assert torch.equal(adapter(other)[name], value)
        assert len(other.parameters()) == len(policy.parameters())


# paths


@pytest.mark.parametrize("path", ["embedded:nothing", "embedded:", "embedded:Tiny/x"])
def test_an_unknown_embedded_name_lists_the_valid_ones(path, monkeypatch, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "no-model").mkdir()
    monkeypatch.setattr(settings, "EMBEDDED", tmp_path)
    with pytest.raises(InputError, match=f"model.name={path}: no such embedded model; valid: one, two$"):
        location(path)
    assert location("embedded:two") == str(tmp_path / "two")
    model = ModelSettings(name=path, context=8, round_tokens=8)
    assert run_mistakes(model) == [f"model.name={path}: no such embedded model; valid: one, two"]


def test_an_unknown_embedded_name_lists_none_if_there_are_no_models(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "EMBEDDED", tmp_path)
    with pytest.raises(InputError, match=r"model\.name=embedded:tiny: no such embedded model; valid: none"):
        location("embedded:tiny")


@pytest.mark.parametrize("path", ["somewhere", "/a/b", "organisation/name"])
def test_other_paths_are_passed_on_unchanged(path):
    assert location(path) == path


def damaged(kind, folder, target):
    if kind == "missing folder":
        return target / "missing"
    if kind == "empty folder":
        return target
    shutil.copytree(folder, target, dirs_exist_ok=True)
    match kind:
        case "no weights":
            (target / "model.safetensors").unlink()
        case "weights cut short":
            content = (target / "model.safetensors").read_bytes()
            (target / "model.safetensors").write_bytes(content[: len(content) // 2])
        case "config is not JSON":
            (target / "config.json").write_text('{"model_type": "qw')
        case "unknown architecture":
            (target / "config.json").write_text('{"model_type": "no-such-thing"}')
    return target


@pytest.mark.parametrize(
    "kind",
    [
        "missing folder",
        "empty folder",
        "no weights",
        "weights cut short",
        "config is not JSON",
        "unknown architecture",
    ],
)
def test_a_folder_that_is_not_a_checkpoint_is_refused(kind, folder, tmp_path):
    path = damaged(kind, folder, tmp_path)
    with pytest.raises(InputError) as caught:
        load_policy(tiny_config(path), 0)
    message = str(caught.value)
    assert message.startswith(f"model.name={path}: cannot be loaded")
    assert "Valid: embedded:tiny, a folder with a checkpoint" in message


def test_a_codec_is_refused_without_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match="cannot be loaded"):
        load_codec(tiny_config(tmp_path))


@pytest.mark.parametrize("kind", ["missing", "empty", "other shape", "cut short"])
@pytest.mark.parametrize("use", ["start", "checkpoint"])
def test_an_adapter_that_does_not_fit_names_its_folder(kind, use, folder, tmp_path):
    path = tmp_path / "adapter"
    if kind == "empty":
        path.mkdir()
    if kind in ("other shape", "cut short"):
        other = AutoModelForCausalLM.from_pretrained(folder)
        get_peft_model(other, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(path)
        weights = path / "adapter_model.safetensors"
        if kind == "cut short":
            weights.write_bytes(weights.read_bytes()[:200])
        else:
            config = path / "adapter_config.json"
            config.write_text(config.read_text().replace('"r": 4', '"r": 5'))
    start, saved = (str(path), None) if use == "start" else (None, tmp_path)
    with pytest.raises(InputError) as caught:
        load_policy(tiny_config(folder).replace(adapter=start), 0, saved)
    assert str(start or saved) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 1}, "model.context=1 must be 2 or more"),
        ({"round_tokens": 0}, "model.round_tokens=0 must be 1 or more"),
        ({"lora": {"r": 0}}, "model.lora.r=0 must be 1 or more"),
        ({"lora": {"alpha": 0}}, "model.lora.alpha=0 must be above 0"),
        (
            {"lora": {"targets": []}},
            "model.lora.targets=[] gives no projection an adapter; name some, e.g. [q_proj, v_proj]",
        ),
        ({"dtype": "int8"}, "model.dtype='int8': must be one of auto, float32, bfloat16, float16, float64"),
    ],
)
def test_a_mistake_names_the_setting(folder, change, message):
    values = {"name": str(folder), "context": 128, "round_tokens": 32}
    assert mistakes(ModelSettings, "model", **values) == run_mistakes(tiny_config(folder)) == []
    assert set(mistakes(ModelSettings, "model", **{**values, **change})) == {message}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_gpu_is_reported(folder):
    settings = tiny_config(folder).replace(device="cuda")
    (error,) = run_mistakes(settings)
    assert error.startswith("model.device=cuda, but torch sees no CUDA device")
    assert settings.placed == "cuda"  # no fallback to the CPU


# tokens and logits


def test_the_codec_round_trips_and_ends_prompts_for_the_assistant(policy):
    codec = policy.codec
    text = "is 2 < 3 so\n<answer>yes</answer>"
    assert codec.decode(codec.encode(text)) == text
    chat = codec.chat([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
    assert codec.decode(chat) == "system\na\nuser\nb\nassistant\n"
    assert chat.count(1) == 3  # the turn starts are special tokens
    assert policy.end_tokens == {2}
    assert policy.pad_token == 0


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_gradient_checkpointing_saves_memory_and_keeps_the_gradient(folder, dtype):
    rows = [[row] for row in random_rows(0, [(20, 30), (9, 12)])]
    outcomes = []
    for checkpointing in (False, True):
        config = tiny_config(folder, dtype).replace(gradient_checkpointing=checkpointing)
        policy = adapted(load_policy(config, 0))
        with kept_for_backward() as kept:
            logprobs, _, mask = policy.completion_logprobs(rows)
        size = sum(tensor.numel() for tensor in kept)
        (logprobs * mask).sum().backward()
        outcomes.append((size, [logprobs.detach(), *(parameter.grad for parameter in policy.parameters())]))
    (whole, plain), (less, checkpointed) = outcomes
    assert less < whole / 2
    assert all(map(torch.equal, plain, checkpointed))


def test_models_without_gradient_checkpointing_are_refused():
    with pytest.raises(InputError, match="gradient_checkpointing=true: Linear has no layers"):
        recompute(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("base", [False, True])
def test_completion_logprobs_equal_those_of_each_row_alone(folder, base):
    """Two rows share a prompt in one sequence; another row has the same prompt in another sequence."""
    policy = tiny_policy(folder, "float64")
    rows = random_rows(0, [(1, 6), (9, 1), (4, 4), (20, 3), (9, 5), (9, 2)])
    rows[4], rows[5] = replace(rows[4], prompt=rows[1].prompt), replace(rows[5], prompt=rows[1].prompt)
    packs = [[rows[0]], [rows[1], rows[4]], [rows[2]], [rows[5]], [rows[3]]]
    with torch.no_grad():
        logprobs, entropy, mask = policy.completion_logprobs(packs, base=base)
    flat = [row for pack in packs for row in pack]
    assert logprobs.shape == entropy.shape == mask.shape == (6, 6)
    for index, row in enumerate(flat):
        count = len(row.completion)
        assert mask[index].tolist() == [True] * count + [False] * (6 - count)
        expected = plain_logprobs(policy, row.prompt, row.completion, row.temperature, base)
        torch.testing.assert_close(logprobs[index, :count], expected.detach(), rtol=0, atol=1e-10)
        assert logprobs[index, count:].tolist() == [0.0] * (6 - count)


# 4-bit weights


@pytest.fixture
def quantized(folder):
    pytest.importorskip("bitsandbytes")
    return lambda dtype="float32": tiny_config(folder, dtype).replace(quantization="nf4")


def unpacked(policy, folder):
    """A full-precision policy with the dequantized weights of ``policy`` and its adapter."""
    from bitsandbytes.functional import dequantize_4bit

    plain = tiny_policy(folder)
    for name, module in policy.model.named_modules():
        if (state := getattr(module, "quant_state", None)) is not None:
            plain.model.get_submodule(name).weight.data.copy_(dequantize_4bit(module.weight, state))
    plain.model.load_state_dict(adapter(policy), strict=False)
    return plain


def test_4_bit_weights_equal_their_dequantized_weights_in_sampling_and_training(quantized, folder):
    policy = adapted(load_policy(quantized(), 0))
    plain = unpacked(policy, folder)
    rows = random_rows(1, [(3, 6), (9, 2)])
    with torch.inference_mode(), policy.writing(Writer.POLICY) as model:  # first a rollout, as in training
        model(input_ids=torch.arange(3, 20)[None])
    found, expected = (one.completion_logprobs([[row] for row in rows])[0] for one in (policy, plain))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for logprobs in (found, expected):
        logprobs.sum().backward()
    for one, other in zip(policy.parameters(), plain.parameters(), strict=True):
        assert bool(other.grad.any())
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_quantized_weights_take_4_bits(quantized):
    layers = [module for module in load_policy(quantized(), 0).model.modules() if hasattr(module, "quant_state")]
    assert len(layers) == 14  # seven projections, two layers
    for layer in layers:
        assert layer.weight.numel() * layer.weight.element_size() * 2 == layer.in_features * layer.out_features


def test_the_hash_of_4_bit_weights_covers_their_scales(quantized):
    policy = load_policy(quantized(), 0)
    assert load_policy(quantized(), 1).base_hash == policy.base_hash
    before = weights_hash(policy.model.named_parameters())
    layer = next(module for module in policy.model.modules() if hasattr(module, "quant_state"))
    layer.weight.quant_state.state2.absmax[0] *= 2
    assert weights_hash(policy.model.named_parameters()) != before


def test_4_bit_weights_are_refused_where_they_are_unsupported(quantized, monkeypatch):
    with pytest.raises(ValidationError, match=r"model\.quantization=nf4 does not support model\.dtype=float64"):
        quantized("float64")
    assert run_mistakes(quantized()) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (error,) = run_mistakes(quantized())
    assert "needs the package bitsandbytes" in error
    assert "model.quantization=null" in error


@pytest.mark.parametrize("kind", ["nf4", "bfloat16", "float16", "float32", "float64"])
def test_the_sampler_equals_the_policy_however_small_the_adapter_is(folder, quantized, kind):
    """Sampler and trainer must agree even if the adapter is smaller than the rounding error of the weights."""
    policy = load_policy(quantized() if kind == "nf4" else tiny_config(folder, kind), 0)
    policy = adapted(policy, 1e-4)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        trained = policy.model(input_ids=ids).logits
        with policy.model.disable_adapter():
            base = policy.model(input_ids=ids).logits
        with policy.writing(Writer.POLICY) as model:
            written = model(input_ids=ids).logits
        with policy.writing(Writer.BASE) as model:
            assert torch.equal(model(input_ids=ids).logits, base)
        assert torch.equal(policy.model(input_ids=ids).logits, trained)  # the merge was undone completely
    assert not torch.equal(trained, base)
    assert float((written - trained).abs().max()) <= 0.01 * float((trained - base).abs().max())


# precision, dates, templates


@pytest.mark.parametrize(
    ("instructions", "dtype"),
    [({"avx2", "avx512_f"}, torch.float32), ({"avx512_f", "avx512_bf16"}, torch.bfloat16), (set(), torch.float32)],
)
def test_dtype_auto_is_the_precision_that_the_device_computes_in(folder, monkeypatch, instructions, dtype):
    config = tiny_config(folder).replace(dtype="auto")
    monkeypatch.setattr(settings, "cpu_features", lambda: instructions)
    assert config.precision == dtype
    assert load_policy(config, 0).model.dtype == dtype
    assert config.replace(lora=None).precision == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert config.replace(device="cuda").precision == torch.bfloat16
    assert config.replace(device="auto").placed == "cuda"
    assert config.replace(device="cuda", dtype="float16").precision == torch.float16


def test_the_date_in_a_template_is_fixed(policy):
    policy.codec.tokenizer.chat_template = (
        "{% set day = strftime_now('%d') %}{{ day.lower() + messages[0]['content'] }}"
    )
    codec = TokenizerCodec(policy.codec.tokenizer)
    assert codec.decode(codec.chat([{"role": "user", "content": " x"}])) == "26 jul 2024 x"


def test_a_template_that_refuses_a_message_gives_an_error_with_the_setting_to_change(policy):
    policy.codec.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(InputError, match=r"refuses the prompt \(no system role\).*model.prompts.system=''"):
        TokenizerCodec(policy.codec.tokenizer).chat([{"role": "system", "content": "x"}])


def test_a_model_without_a_chat_template_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match=r"no chat template.*instruction-tuned"):
        load_codec(tiny_config(tmp_path))


# starting from an adapter, training all weights


def logits(policy, base=False):
    """Logits of the policy or its base; those of training and sampling must agree."""
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        with policy.as_base() if base else nullcontext():
            trained = policy.model(input_ids=ids).logits
        with policy.writing(Writer.BASE if base else Writer.POLICY) as model:
            torch.testing.assert_close(model(input_ids=ids).logits, trained, rtol=0, atol=1e-4)
    return trained


def nudge(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)


def test_the_base_includes_the_adapter_that_the_run_started_from(folder, policy, tmp_path):
    policy.save(tmp_path)
    config = tiny_config(folder).replace(adapter=str(tmp_path))
    started = load_policy(config, 0)
    begin = logits(policy)
    assert torch.equal(logits(started), begin)
    assert started.base_hash != policy.base_hash
    nudge(started)
    after = logits(started)
    assert not torch.equal(after, begin)
    assert torch.equal(logits(started, base=True), begin)
    assert torch.equal(logits(started), after)
    started.save(tmp_path / "later")
    resumed = load_policy(config, 7, saved=tmp_path / "later")
    assert resumed.base_hash == started.base_hash
    assert torch.equal(logits(resumed), after)
    assert torch.equal(logits(resumed, base=True), begin)


def test_all_weights_are_trained_without_an_adapter(folder, tmp_path):
    config = tiny_config(folder).replace(lora=None)
    full = load_policy(config, 0, keep_start=True)
    assert len(full.parameters()) == len(list(full.model.parameters()))
    begin = logits(full)
    assert torch.equal(begin, logits(tiny_policy(folder), base=True))
    nudge(full)
    after = logits(full)
    assert torch.equal(logits(full, base=True), begin)
    full.save(tmp_path)
    assert not (tmp_path / "adapter").exists()
    resumed = load_policy(config, 7, saved=tmp_path, keep_start=True)
    assert resumed.base_hash == full.base_hash
    for one, other in zip(resumed.parameters(), full.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(logits(resumed), after)
    assert torch.equal(logits(resumed, base=True), begin)


def test_the_base_needs_a_copy_of_the_initial_weights(folder):
    full = load_policy(tiny_config(folder).replace(lora=None), 0)
    with pytest.raises(ValueError, match="the starting weights were not kept"):
        logits(full, base=True)


def test_an_adapter_is_named_by_its_folder_or_its_run(policy, tmp_path):
    run = tmp_path / "run"
    for step in (2, 10):
        checkpoint.save(run, step, policy, {})
    newest = run / "checkpoints" / "step_10"
    for name in (run, newest, newest / "adapter"):
        assert adapter_folder(str(name)) == newest / "adapter"
    checkpoint.save_best(run, 2, 0.5, policy)
    assert adapter_folder(str(run)) == newest / "adapter"
    (run / "summary.json").write_text('{"best": {"step": 2, "accuracy": 0.5}}')
    assert adapter_folder(str(run)) == run / "checkpoints" / "best" / "adapter"  # the weights that the run reports
    for nothing in (tmp_path, tmp_path / "missing", run / "checkpoints"):
        with pytest.raises(InputError, match=f"model.adapter={nothing}: contains no LoRA adapter"):
            adapter_folder(str(nothing))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "bfloat16"}, "updates are lost to rounding in model.dtype=bfloat16"),
        ({"quantization": "nf4"}, "use model.quantization=null, or an adapter"),
        ({"adapter": "ADAPTER"}, "merge it first"),
    ],
)
def test_settings_that_need_an_adapter_are_refused_in_full_training(folder, policy, tmp_path, change, message):
    pytest.importorskip("bitsandbytes")
    policy.save(tmp_path)
    values = {"name": str(folder), "context": 128, "round_tokens": 32, "lora": None}
    assert mistakes(ModelSettings, "model", **values) == []
    change = {key: str(tmp_path) if value == "ADAPTER" else value for key, value in change.items()}
    (error,) = mistakes(ModelSettings, "model", **values, **change)
    assert message in error


@pytest.mark.parametrize("kind", ["nf4", "bfloat16", "float32"])
def test_engines_sample_with_the_adapter_merged_or_not(folder, quantized, kind):
    policy = adapted(load_policy(quantized() if kind == "nf4" else tiny_config(folder, kind), 0))
    turn = Turn(path=(0,), prompt=(5, 6, 7), sampling=Sampling(20), stream=3)
    (written,) = LocalEngine(policy).generate([turn], lambda turn: [])
    base, trained = (
        plain_logprobs(policy, turn.prompt, written.completion, 1.0, base).detach().double() for base in (True, False)
    )
    sampled = torch.tensor(written.logprobs, dtype=torch.float64)
    assert float((sampled - trained).abs().mean()) < 0.05 * float((base - trained).abs().mean())


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_a_run_that_started_from_other_weights_resumes_bit_for_bit(tmp_path, kind):
    """The base of the KL penalty and of continuations has the initial weights, also after a resume."""
    start = tmp_path / "start"
    adapted(load_policy(compose("train", []).settings.model, 5), 0.02).save(start)
    overrides = ["model.lora=null", "optimizer.lr=1e-3"] if kind == "full" else [f"model.adapter={start}"]
    overrides += ["train.steps=3", "checkpoint.keep=0", "algorithm.kl_beta=0.1", "rounds.continuation=base"]
    run = run_small(tmp_path / "run", *overrides, "evaluation.before=false", "evaluation.limit=1")
    weights = run / "checkpoints" / "step_3" / ("model" if kind == "full" else "adapter")
    expected = {path.name: path.read_bytes() for path in weights.glob("*.safetensors")}
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert expected
    assert losses[1] != 0
    shutil.rmtree(run / "checkpoints" / "step_3")
    (run / "summary.json").unlink()
    train(resume([f"resume={run}"])[1], run)
    assert {path.name: path.read_bytes() for path in weights.glob("*.safetensors")} == expected
    assert [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()] == losses
