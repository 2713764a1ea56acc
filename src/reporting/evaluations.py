"""Evaluations in summaries, by benchmark, split and rounds."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple


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
    ``benchmark`` is the run's. Their intervals of the change are normal, and have no width if no problem changed; they
    are replaced by Student's t and by the interval for equal differences.
    """
    found = summary["evaluations"].get(part, [])
    if isinstance(found, Mapping):
        named = {_older_name(key, benchmark): one for key, one in found.items()}
    else:
        named = {Name(one["benchmark"], one["split"], one["rounds"]): one for one in found}
    if part != "change":
        return named
    after = evaluations(summary, "after", benchmark)
    return {name: _with_t(one, after[name].get("problems")) for name, one in named.items()}


def _older_name(key: str, benchmark: str) -> Name:
    split, _, rounds = key.rpartition(", ")
    return Name(benchmark, split, int(rounds.split()[0]))


def _with_t(change: Mapping[str, Any], problems: int | None) -> Mapping[str, Any]:
    """A change with the interval of Student's t; summaries that name the number of its problems have it already."""
    from src.evaluation.statistics import (
        ROUNDING,
        Z95,
        equal_differences,
        t_quantile,
    )  # heavy: reading names needs no scipy

    if "problems" in change or problems is None or problems < 2:
        return change
    estimate, low, high = (change[part] for part in ("estimate", "low", "high"))
    equal = asdict(equal_differences(estimate, problems))
    if high - low < ROUNDING:
        return {**change, **equal}
    if math.isclose(low, equal["low"], abs_tol=1e-9) and math.isclose(high, equal["high"], abs_tol=1e-9):
        return change
    half = max(estimate - low, high - estimate) * t_quantile(problems) / Z95  # one end may be clipped
    return {**change, "low": max(-1.0, estimate - half), "high": min(1.0, estimate + half)}


def mean_verdicts(summary: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """The mean verdict on each problem of an evaluation, by the problem's place and the hash of all problems.

    Empty if the summary does not hold them, as those of older versions.
    """
    if "per_problem" not in summary:
        return {}
    every = summary["decided_by"]["problems"]["sha256"]
    return {(str(place), every): total / summary["samples"] for place, total in enumerate(summary["per_problem"])}


def rebuilt_verdicts(summary: Mapping[str, Any]) -> dict[tuple[str, str], list[float]]:
    """Verdicts of an evaluation on each problem, by the keys of ``mean_verdicts``, without the records.

    Verdicts 0 and 1 are rebuilt from their sum and number, right ones first: the order has no meaning. Graded verdicts
    cannot be rebuilt; their mean is then the only entry. Empty if the summary does not hold the sums.
    """
    means = mean_verdicts(summary)
    if not means or not _binary(summary):
        return {problem: [mean] for problem, mean in means.items()}
    rights = [round(total) for total in summary["per_problem"]]
    rows = ([1.0] * right + [0.0] * (summary["samples"] - right) for right in rights)
    return dict(zip(means, rows, strict=True))


def _binary(summary: Mapping[str, Any]) -> bool:
    """Whether all verdicts are 0 or 1: sums are whole, and the accuracy is the share of fully right answers."""
    whole = all(abs(total - round(total)) < 1e-9 for total in summary["per_problem"])
    right = summary.get("pass_at", {}).get("1")
    return whole and (right is None or math.isclose(right, summary["accuracy"], abs_tol=1e-9))


def record_files(folder: Path, name: Name, summary: Mapping[str, Any]) -> list[Path]:
    """The file of an evaluation's records, found by the key of its summary; by its name in runs without keys."""
    if "key" not in summary:
        file = folder / f"{name.benchmark}-{name.split}_rounds{name.rounds}.jsonl"
        return [file] if file.is_file() else []
    for file in sorted(folder.glob("*.json")):
        if json.loads(file.read_text(encoding="utf-8")).get("key") == summary["key"]:
            return [file.with_suffix(".jsonl")]
    return []
