"""Evaluation results: keys (hashes of everything that decides them), files, and paired comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.evaluation.graphs import scalars
from src.evaluation.statistics import Interval, paired_difference
from src.types import Problem
from src.utils.files import read_jsonl, write_json, write_jsonl


@dataclass(frozen=True)
class Evaluated:
    """Result of evaluating one test split at one number of rounds.

    ``summary`` names the ``benchmark``, ``split`` and ``rounds``. Its ``key`` is a hash of everything that decides the
    result; its ``protocol`` is the same hash without the weights. ``correct`` holds the verdicts,
    ``[problems][samples]``.
    """

    summary: dict[str, Any]
    correct: list[list[float]]

    @property
    def name(self) -> tuple[str, str, int]:
        """Benchmark, split and number of rounds."""
        return self.summary["benchmark"], self.summary["split"], self.summary["rounds"]

    @property
    def interval(self) -> Interval:
        """Accuracy with its 95 % interval."""
        return Interval(*(self.summary[part] for part in ("accuracy", "low", "high")))

    @property
    def metrics(self) -> dict[str, float]:
        """The main numbers, for curves."""
        numbers = {name: self.summary[name] for name in ("accuracy", "low", "high", "tokens_per_answer")}
        return numbers | (scalars(self.summary["graph"]) if "graph" in self.summary else {})


def digest(value: Any) -> str:
    """SHA-256 of plain data, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def problems_digest(problems: Sequence[Problem]) -> str:
    """SHA-256 of the ids, questions, gold answers and tolerances of problems, in order."""
    return digest(
        [
            [problem.id, problem.question, problem.answer, *problem.metadata.get("answers", ())]
            + ([problem.metadata["tolerance"]] if "tolerance" in problem.metadata else [])
            for problem in problems
        ]
    )


class Results:
    """Evaluation files in one folder, such as ``evaluation/step_<s>`` of a run.

    An evaluation is found by its key, never by its file name. Files are named ``<benchmark>-<split>_rounds<n>``,
    followed by the start of the key if an evaluation with another key already has that name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Evaluated | None:
        """Find the complete evaluation with this key; ``None`` if there is none. Damaged files do not count."""
        for file in sorted(self.folder.glob("*.json")):
            summary = _summary(file)
            if summary.get("key") == key and (correct := _verdicts(file.with_suffix(".jsonl"), summary)) is not None:
                return Evaluated(summary, correct)
        return None

    def write(self, result: Evaluated, records: Sequence[dict[str, Any]]) -> Path:
        """Write ``<name>.jsonl`` (one line per problem and sample), then the summary ``<name>.json``.

        With several verifiers, ``<name>_disagreements.jsonl`` lists the answers that they judge differently. Files of
        other evaluations are never changed. Returns the path of the summary.
        """
        benchmark, split, rounds = result.name
        name = f"{benchmark}-{split}_rounds{rounds}"
        if self._taken(name, result.summary["key"]):
            name += f"_{result.summary['key'][:8]}"
        write_jsonl(self.folder / f"{name}.jsonl", records)
        if "also" in result.summary:
            differing = disagreements(result.summary["verifier"], records)
            write_jsonl(self.folder / f"{name}_disagreements.jsonl", differing)
        write_json(self.folder / f"{name}.json", result.summary)
        return self.folder / f"{name}.json"

    def _taken(self, name: str, key: str) -> bool:
        file = self.folder / f"{name}.json"
        return file.exists() and bool(_summary(file).get("key") != key)  # a damaged one is left to its owner


def _summary(file: Path) -> dict[str, Any]:
    """Read a summary; empty if there is none, or if it is damaged."""
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _verdicts(file: Path, summary: Mapping[str, Any]) -> list[list[float]] | None:
    """Read the verdicts, ``[problems][samples]``; ``None`` if the records are damaged or do not fit the summary."""
    try:
        verdicts = [float(record["correct"]) for record in read_jsonl(file)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    samples, count = summary["samples"], summary["problems"] * summary["samples"]
    if len(verdicts) != count or abs(sum(verdicts) / count - summary["accuracy"]) > 1e-9:
        return None
    return [verdicts[start : start + samples] for start in range(0, count, samples)]


def disagreements(verifier: str, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the answers that the verifiers judge differently, with the verdict of each verifier."""
    answers = []
    for record in records:
        verdicts = {verifier: record["correct"], **record["also"]}
        if len(set(verdicts.values())) > 1:
            fields = {name: record[name] for name in ("id", "sample", "answer", "gold")}
            answers.append(fields | {"verdicts": verdicts})
    return answers


def compare(
    before: Iterable[Evaluated], after: Iterable[Evaluated], last: Iterable[Evaluated] = ()
) -> dict[str, list[dict[str, Any]]]:
    """Collect the summaries before and after training and their paired changes.

    ``last`` are the evaluations of the last weights, where others are reported (``evaluation.keep_best``). Two
    evaluations are paired only if they have the same protocol, so that only the weights differ.
    """
    before, after, last = list(before), list(after), list(last)
    found = {
        "before": [result.summary for result in before],
        "after": [result.summary for result in after],
        "change": _changes(before, after),
    }
    if last:
        found |= {"last": [result.summary for result in last], "last_to_best": _changes(last, after)}
    return found


def _changes(before: Iterable[Evaluated], after: Iterable[Evaluated]) -> list[dict[str, Any]]:
    """The paired changes of evaluations of the same protocol."""
    earlier = {result.summary["protocol"]: result for result in before}
    changes = []
    for result in after:
        if (base := earlier.get(result.summary["protocol"])) is not None:
            benchmark, split, rounds = result.name
            change = asdict(paired_difference(base.correct, result.correct))
            about = {"benchmark": benchmark, "split": split, "rounds": rounds, "problems": len(base.correct)}
            changes.append({**about, **change})
    return changes
