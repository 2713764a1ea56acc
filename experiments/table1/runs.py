"""Read the runs of table 1 and check that they follow the paper's recipes, setting by setting."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from src.config.composing import raw
from src.config.runs import differences, load
from src.reporting.evaluations import evaluations
from src.types import InputError
from src.utils.files import read_jsonl

BENCHMARK = "paper"
PROBLEMS = {"math500": 500, "aime2024": 30}
STEPS = {"GRPO": 2000, "MOTIF": 1000}
RECIPES = {"paper-motif": "MOTIF", "paper-grpo": "GRPO"}
EQUAL = "GRPO, MOTIF's tokens"

FREE = ("seed", "tracking", "engine", "checkpoint", "debug", "resume")
"""Sections that may differ from the recipe: they affect results only by chance or rounding."""

FREE_KEYS = {
    "benchmark.source",
    "model.device",
    "model.gradient_checkpointing",
    "optimizer.steps",
    "train.max_time",
    "train.micro_batch_tokens",
    "train.profile",
    "train.rollouts_every",
    "train.threads",
}


def read(folders: Iterable[Path], allow_differences: bool = False) -> dict[str, list[Mapping[str, Any]]]:
    """Read the summaries of runs, by policy. A run of ``paper-grpo`` with more steps than published counts as the one
    at MOTIF's tokens.

    ``differences`` in a summary lists how the run differs from its recipe: model, steps, data, problems, sampling, and
    other settings.

    Raises:
        InputError: a folder holds no complete run of one of the two recipes, a policy has a seed twice, or a run
            differs from its recipe and ``allow_differences`` is false. Names all differences of all runs.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    tested: dict[str, tuple[str, Path]] = {}
    refused = []
    for folder in folders:
        summary, recipe = _complete(folder)
        policy = RECIPES[recipe]
        if policy == "GRPO" and summary["final"]["step"] > STEPS["GRPO"]:
            policy = EQUAL
        if summary["seed"] in {other["seed"] for other in found.get(policy, [])}:
            raise InputError(f"{folder}: a second run of {policy} with seed {summary['seed']}")
        differing = [*_differences(folder, summary, recipe, policy), *_other_problems(folder, summary, tested)]
        refused += [f"{folder}: {difference}" for difference in differing]
        run = {**summary, "round_means": _round_means(folder / "metrics.jsonl"), "differences": differing}
        found.setdefault(policy, []).append(run)
    if refused and not allow_differences:
        raise InputError(
            *refused,
            "these runs differ from the paper's recipes; --allow-differences writes the table with a list of them",
        )
    return found


def _complete(folder: Path) -> tuple[dict[str, Any], str]:
    """The summary of a complete run, and its recipe."""
    file = folder / "summary.json"
    if not file.is_file():
        raise InputError(f"{folder}: incomplete, or no run (it has no summary.json)")
    summary = json.loads(file.read_text(encoding="utf-8"))
    recipe = summary["choices"].get("experiment")
    if recipe not in RECIPES:
        raise InputError(f"{folder}: is a run of experiment={recipe}; valid: {', '.join(RECIPES)}")
    return summary, recipe


def _differences(folder: Path, summary: Mapping[str, Any], recipe: str, policy: str) -> Iterator[str]:
    """Say how a run differs from its recipe, one sentence per difference."""
    published_settings = raw("train", [f"experiment={recipe}"])
    for key, (published, own) in differences(published_settings, load(folder), FREE).items():
        more_steps = policy == EQUAL and key == "train.steps"
        if key not in FREE_KEYS and not more_steps and key != "_target_":
            yield f"{key} is {own!r}, the recipe has {published!r}"
    planned, step = load(folder).train.steps, summary["final"]["step"]
    if step != planned:
        yield f"it was trained for {step} steps of train.steps={planned}"
    for part in ("before", "after"):
        for name, one in evaluations(summary, part, BENCHMARK).items():
            if name.benchmark != BENCHMARK or name.split not in PROBLEMS:
                yield f"it was evaluated on {name.benchmark}/{name.split}; the table has {', '.join(PROBLEMS)}"
                continue
            sampling = {key: published_settings.evaluation[key] for key in ("samples", "temperature")}
            for key, expected in {"problems": PROBLEMS[name.split], **sampling}.items():
                if one[key] != expected:
                    which = f"{name.split} {part} training, rounds={name.rounds}"
                    yield f"the evaluation on {which} has {key}={one[key]}, the recipe has {expected}"


def _other_problems(folder: Path, summary: Mapping[str, Any], tested: dict[str, tuple[str, Path]]) -> Iterator[str]:
    """Say which test splits hold other problems than in the runs before; ``tested`` collects the splits' hashes."""
    for part in ("before", "after"):
        for name, one in evaluations(summary, part, BENCHMARK).items():
            if "decided_by" in one:  # older summaries hold no hash of the problems
                own = one["decided_by"]["problems"]["sha256"]
                first, where = tested.setdefault(name.split, (own, folder))
                if own != first:
                    yield f"its problems of {name.split} are not those of {where}"


def _round_means(file: Path) -> tuple[float, ...]:
    """Mean new tokens of each round over a run's steps; empty without metrics."""
    steps = list(read_jsonl(file)) if file.is_file() else []
    names = [f"completion/round_{number}/mean_tokens" for number in range(1, 4)]
    columns = [[step[name] for step in steps if name in step] for name in names]
    return tuple(statistics.fmean(column) for column in columns if column)
