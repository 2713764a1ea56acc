"""Incomplete or unusual checkpoints: they are either handled, or refused with a message for people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from src.engines.local.engine import LocalEngine
from src.estimating.fitting import check_memory
from src.estimating.memory import Job
from src.models.loading import load_codec, load_policy
from src.models.settings import EMBEDDED, ModelSettings
from src.types import InputError, Sampling, Status, Turn
from tests.helpers.architectures import save_architecture

USER = [{"role": "user", "content": "1 + 2 - 3 ="}]
Variant = Callable[..., ModelSettings]


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    """Make a copy of the embedded model with changed files: ``config={...}``; a value of ``...`` deletes the key."""

    def make(template: tuple[str, str] | None = None, **files: dict[str, Any]) -> ModelSettings:
        folder = tmp_path / "tiny"
        shutil.copytree(EMBEDDED / "tiny", folder)
        for name, changes in files.items():
            path = folder / f"{name}.json"
            values = json.loads(path.read_text()) | changes
            path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))
        if template is not None:
            path = folder / "chat_template.jinja"
            text = path.read_text()
            assert template[0] in text
            path.write_text(text.replace(*template))
        return ModelSettings(name=str(folder), context=512, round_tokens=40, device="cpu")

    return make


def no_children(turn: Turn) -> list[Turn]:
    return []


def test_the_token_that_ends_a_message_in_the_template_ends_a_turn(
    variant: Variant, caplog: pytest.LogCaptureFixture
) -> None:
    end = "<|endoftext|>"
    policy = load_policy(
        variant(config={"eos_token_id": 0}, generation_config={"eos_token_id": 0}, tokenizer_config={"eos_token": end}),
        0,
    )
    assert policy.end_tokens == {0, policy.codec.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert policy.end_token == policy.codec.closing, "demonstrations end as the template does"
    assert "the chat template ends messages with <|im_end|>" in caplog.text
    prompt = policy.codec.chat(USER)
    turns = LocalEngine(policy).generate(
        [Turn((index,), prompt, Sampling(40), stream=index) for index in range(20)], no_children
    )
    assert sum(turn.status == Status.DONE for turn in turns) > 15


def test_without_any_end_of_sequence_the_model_is_refused(variant: Variant) -> None:
    settings = variant(
        template=("<|im_end|>", ""),
        config={"eos_token_id": None, "pad_token_id": None},
        generation_config={"eos_token_id": ..., "pad_token_id": ...},
        tokenizer_config={"eos_token": None, "pad_token": None},
    )
    with pytest.raises(InputError, match="no end-of-sequence token is known"):
        load_policy(settings, 0)


def test_a_template_that_drops_system_messages_is_refused_with_advice(variant: Variant) -> None:
    codec = load_codec(variant(template=("in messages", "in messages if message['role'] != 'system'")))
    assert not codec.keeps_system
    assert codec.chat(USER)
    with pytest.raises(InputError, match=r"drops system messages; set model\.prompts\.system=''"):
        codec.chat([{"role": "system", "content": "Be brief."}, *USER])


def test_a_template_from_a_file_replaces_the_tokenizers_template(variant: Variant, tmp_path: Path) -> None:
    settings = variant(template=("{% for", "{# nothing #}{% for"))
    (tmp_path / "tiny" / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match=r"no chat template.*model\.template=<file>"):
        load_codec(settings)
    file = tmp_path / "mine.jinja"
    file.write_text("{% for message in messages %}Q: {{ message['content'] }}\n{% endfor %}A:")
    codec = load_codec(settings.replace(template=str(file)))
    assert codec.decode(codec.chat(USER)) == "Q: 1 + 2 - 3 =\nA:"


def test_a_tokenizer_larger_than_the_embedding_is_refused(variant: Variant, tmp_path: Path) -> None:
    settings = variant()
    model = AutoModelForCausalLM.from_pretrained(settings.name)
    model.resize_token_embeddings(300)
    model.save_pretrained(settings.name)
    with pytest.raises(InputError, match="its tokenizer has 329 tokens, but the model has embeddings for 300 only"):
        load_policy(settings, 0)


def test_special_tokens_beyond_the_embedding_are_allowed(variant: Variant) -> None:
    settings = variant()
    codec = load_codec(settings)
    codec.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    codec.tokenizer.save_pretrained(settings.name)
    rows = json.loads(Path(settings.name, "config.json").read_text())["vocab_size"]
    assert len(load_codec(settings).tokenizer) == rows + 1
    load_policy(settings, 0)


def damage(settings: ModelSettings, change: Callable[[dict[str, Tensor], str], Any]) -> str:
    """Apply ``change`` to the saved weights and the name of one of them. Returns the name."""
    file = Path(settings.name) / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "layers.1.mlp" in name)
    change(weights, name)
    save_file(weights, file, metadata={"format": "pt"})
    return name


def test_a_checkpoint_without_a_tensor_is_refused(variant: Variant) -> None:
    settings = variant()
    name = damage(settings, lambda weights, name: weights.pop(name))
    with pytest.raises(InputError, match=rf"the checkpoint lacks 1 tensors of Qwen2ForCausalLM, e.g. {name}"):
        load_policy(settings, 0)


def test_a_tensor_of_another_shape_is_refused(variant: Variant) -> None:
    settings = variant()
    damage(settings, lambda weights, name: weights.update({name: weights[name][:-1].contiguous()}))
    with pytest.raises(InputError, match=r"cannot be loaded"):
        load_policy(settings, 0)


def test_memory_is_not_estimated_for_models_whose_layers_differ(tmp_path: Path) -> None:
    folder = save_architecture(tmp_path, "gemma4_text", {"head_dim": 8, "sliding_window": 256})
    check_memory(Job(ModelSettings(name=str(folder), context=200, round_tokens=24, device="cpu"), 65536))
