"""Evaluations in summaries, by benchmark, split and rounds."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from src.evaluation.statistics import equal_differences


class Name(NamedTuple):
    """Identifies an evaluation in a summary."""

    benchmark: str
    split: str
    rounds: int

    def label(self, among: Collection[Name]) -> str:
        """The split, with its benchmark if ``among`` holds several benchmarks."""
        return self.split if len({name.benchmark for name in among}) == 1 else f"{self.benchmark}/{self.split}"


def evaluations(summary: Mapping[str, Any], part: str, benchmark: str) -> dict[Name, Mapping[str, Any]]:
    """The evaluations ``before`` or ``after`` training, or the ``change``, of a run's summary.

    Older summaries do not name the benchmark of an evaluation: they hold a mapping from ``"<split>, <n> rounds"``, and
    ``benchmark`` is the run's. If no problem changed, their interval of the change has
    no width; it is replaced by the interval for equal differences.
    """
    found = summary["evaluations"][part]
    if not isinstance(found, Mapping):
        return {Name(one["benchmark"], one["split"], one["rounds"]): one for one in found}
    result = {}
    for key, one in found.items():
        split, _, rounds = key.rpartition(", ")
        if part == "change" and one["low"] == one["high"]:
            one = asdict(equal_differences(one["estimate"], summary["evaluations"]["after"][key]["problems"]))
        result[Name(benchmark, split, int(rounds.split()[0]))] = one
    return result


def record_files(folder: Path, name: Name, summary: Mapping[str, Any]) -> list[Path]:
    """The file of an evaluation's records, found by the key of its summary; by its name in runs without keys."""
    if "key" not in summary:
        file = folder / f"{name.benchmark}-{name.split}_rounds{name.rounds}.jsonl"
        return [file] if file.is_file() else []
    for file in sorted(folder.glob("*.json")):
        if json.loads(file.read_text(encoding="utf-8")).get("key") == summary["key"]:
            return [file.with_suffix(".jsonl")]
    return []
