"""Exported models, loaded with transformers and PEFT alone, equal the policy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.config import ROOT, compose
from src.export import export
from src.models.loading import load_policy
from src.models.policy import Policy
from src.training import checkpoint
from src.types import InputError
from tests.helpers.tiny_models import adapted

IDS = torch.tensor([[52, 13, 25, 12, 19, 29, 60, 7]])


def run_of(folder: Path, *overrides: str) -> Policy:
    """Make a run directory with one checkpoint of a policy that differs from its base. Returns the policy."""
    config = compose("train", overrides)
    config.write(folder)
    policy = adapted(load_policy(config.settings.model, 0), 0.05)
    if not policy.adapted:
        for parameter in policy.parameters():
            parameter.data *= 1.1
    checkpoint.save(folder, 3, policy, {})
    return policy


def run_export(run: Path, out: Path, *overrides: str) -> None:
    export(compose("export", [f"run={run}", f"out={out}", *overrides]), Path())


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS).logits.float()
    return result


@pytest.mark.parametrize("change", ["adapter", "full", "nf4"])
def test_a_merged_export_equals_the_policy(tmp_path: Path, change: str) -> None:
    if change == "nf4":
        pytest.importorskip("bitsandbytes")
    overrides = {"adapter": [], "full": ["model.lora=null"], "nf4": ["model.quantization=nf4"]}[change]
    policy = run_of(tmp_path / "run", *overrides)
    run_export(tmp_path / "run", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.float32
    torch.testing.assert_close(logits(model), logits(policy.model), rtol=0, atol=2e-5)
    base = AutoModelForCausalLM.from_pretrained(ROOT / "src" / "assets" / "tiny")
    assert float((logits(model) - logits(base)).abs().max()) > 0.1
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    messages = [{"role": "user", "content": "1 + 2 ="}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) == policy.codec.chat(messages)


def test_an_exported_adapter_equals_the_policy(tmp_path: Path) -> None:
    policy = run_of(tmp_path / "run")
    run_export(tmp_path / "run", tmp_path / "out", "what=adapter")
    base = AutoModelForCausalLM.from_pretrained(ROOT / "src" / "assets" / "tiny")
    model = PeftModel.from_pretrained(base, tmp_path / "out")
    assert torch.equal(logits(model), logits(policy.model))


def test_a_half_precision_export_rounds_only_once(tmp_path: Path) -> None:
    run_of(tmp_path / "run")
    run_export(tmp_path / "run", tmp_path / "single")
    run_export(tmp_path / "run", tmp_path / "half", "dtype=bfloat16")
    single, half = (AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype="auto") for name in ("single", "half"))
    for one, other in zip(single.parameters(), half.parameters(), strict=True):
        assert torch.equal(one.to(torch.bfloat16), other)


def test_a_finished_run_is_exported_with_its_card(small_run: Path, tmp_path: Path) -> None:
    run_export(small_run, tmp_path / "merged")
    run_export(small_run, tmp_path / "adapter", "what=adapter")
    assert (tmp_path / "adapter" / "README.md").read_text() == (small_run / "model" / "README.md").read_text()
    assert "A LoRA adapter merged into" in (tmp_path / "merged" / "README.md").read_text()
    run_export(small_run, tmp_path / "early", "checkpoint=3")
    assert not (tmp_path / "early" / "README.md").exists()  # the summary reports another step


@pytest.mark.parametrize(
    ("reported", "step", "carded"),
    [
        ({"final": {"step": 4}, "best": {}, "reported_step": 4}, 4, True),
        ({"final": {"step": 4}, "best": {"step": 3, "accuracy": 0.5}, "reported_step": 3}, 3, True),
        ({"final": {"step": 4}, "best": {"step": 3, "accuracy": 0.5}, "reported_step": 3}, 4, False),
        # summaries of older versions
        ({"final": {"step": 4}, "best": {}}, 4, True),
        ({"final": {"step": 4}, "best": {}}, 3, False),
        ({"final": {"step": 4}, "best": {"step": 3, "accuracy": 0.5}}, 3, True),
        ({"final": {"step": 4}, "best": {"step": 3, "accuracy": 0.5}}, 4, False),
    ],
)
def test_only_the_reported_step_gets_a_model_card(
    small_run: Path, tmp_path: Path, reported: dict[str, Any], step: int, carded: bool
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    summary = json.loads((run / "summary.json").read_text())
    del summary["reported_step"]
    (run / "summary.json").write_text(json.dumps({**summary, **reported}))
    run_export(run, tmp_path / "out", f"checkpoint={step}")
    assert (tmp_path / "out" / "README.md").exists() == carded


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["what=everything"], "what='everything': must be one of merged, adapter"),
        (["dtype=int8"], "dtype='int8': must be one of float32, bfloat16, float16 or null"),
        (["checkpoint=99"], r"checkpoint=99: .* holds no such checkpoint; valid: latest, or a step of \[3, 4\]"),
        (["checkpoint=best"], r"checkpoint=best: .* holds no such checkpoint; valid: latest, or a step of \[3, 4\]"),
        (["run=nowhere"], "nowhere: not a run directory"),
    ],
)
def test_invalid_exports_are_refused(small_run: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_export(small_run, tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()


def test_an_existing_output_folder_is_refused(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        run_export(small_run, tmp_path)


def test_exporting_the_adapter_of_a_run_without_one_is_refused(tmp_path: Path) -> None:
    run_of(tmp_path / "run", "model.lora=null")
    with pytest.raises(InputError, match="trained all weights and has no adapter"):
        run_export(tmp_path / "run", tmp_path / "out", "what=adapter")
