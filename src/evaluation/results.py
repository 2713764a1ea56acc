"""Results of evaluations: what decides them, finding them again, writing them, comparing them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.evaluation.statistics import Interval, paired_difference
from src.types import Problem
from src.utils.files import read_jsonl, write_json, write_jsonl


@dataclass(frozen=True)
class Evaluated:
    """One test split at one number of rounds: a summary, and each problem's verdicts by sample.

    ``summary`` names its ``benchmark``, ``split`` and ``rounds``; ``key`` is a hash of everything that decides the
    result, ``protocol`` the same without the weights.
    """

    summary: dict[str, Any]
    correct: list[list[float]]

    @property
    def name(self) -> tuple[str, str, int]:
        """Benchmark, split and rounds."""
        return self.summary["benchmark"], self.summary["split"], self.summary["rounds"]

    @property
    def interval(self) -> Interval:
        """Accuracy with its interval."""
        return Interval(*(self.summary[part] for part in ("accuracy", "low", "high")))


def digest(value: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def problems_digest(problems: Sequence[Problem]) -> str:
    """SHA-256 over the ids, questions and golds of problems, in order."""
    return digest([[problem.id, problem.question, problem.answer] for problem in problems])


class Results:
    """The evaluations in one folder, ``evaluation/step_<s>`` of a run.

    An evaluation is found by its key. Its files have a readable name, ``<benchmark>-<split>_rounds<n>``, followed by
    the start of the key if that name is taken by an evaluation that was decided by something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Evaluated | None:
        """The complete evaluation with this key, if there is one."""
        for file in sorted(self.folder.glob("*.json")):
            summary, records = json.loads(file.read_text(encoding="utf-8")), file.with_suffix(".jsonl")
            if summary.get("key") == key and records.is_file():
                verdicts = [record["correct"] for record in read_jsonl(records)]
                samples = summary["samples"]
                rows = [verdicts[start : start + samples] for start in range(0, len(verdicts), samples)]
                return Evaluated(summary, rows)
        return None

    def write(self, result: Evaluated, records: Sequence[dict[str, Any]]) -> Path:
        """Write ``<name>.jsonl``, a line per problem and sample, then ``<name>.json``, the summary.

        With several verifiers, ``<name>_disagreements.jsonl`` lists the answers that they judge differently. Files of
        other evaluations are never changed. Returns the summary's path.
        """
        benchmark, split, rounds = result.name
        name = f"{benchmark}-{split}_rounds{rounds}"
        if self._taken(name, result.summary["key"]):
            name += f"_{result.summary['key'][:8]}"
        write_jsonl(self.folder / f"{name}.jsonl", records)
        if "also" in result.summary:
            found = disagreements(result.summary["verifier"], records)
            write_jsonl(self.folder / f"{name}_disagreements.jsonl", found)
        write_json(self.folder / f"{name}.json", result.summary)
        return self.folder / f"{name}.json"

    def _taken(self, name: str, key: str) -> bool:
        file = self.folder / f"{name}.json"
        return file.exists() and json.loads(file.read_text(encoding="utf-8")).get("key") != key


def disagreements(verifier: str, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers that the verifiers judge differently, with each one's verdict."""
    found = []
    for record in records:
        verdicts = {verifier: record["correct"], **record["also"]}
        if len(set(verdicts.values())) > 1:
            found.append({name: record[name] for name in ("id", "sample", "answer", "gold")} | {"verdicts": verdicts})
    return found


def compare(before: Iterable[Evaluated], after: Iterable[Evaluated]) -> dict[str, list[dict[str, Any]]]:
    """Summaries before and after training, and paired changes.

    Two evaluations are paired only if everything but the weights was the same.
    """
    before, after = list(before), list(after)
    earlier = {result.summary["protocol"]: result for result in before}
    changes = []
    for result in after:
        if (base := earlier.get(result.summary["protocol"])) is not None:
            benchmark, split, rounds = result.name
            change = asdict(paired_difference(base.correct, result.correct))
            changes.append({"benchmark": benchmark, "split": split, "rounds": rounds, **change})
    return {
        "before": [result.summary for result in before],
        "after": [result.summary for result in after],
        "change": changes,
    }
