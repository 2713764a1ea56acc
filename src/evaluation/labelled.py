"""Answers that were labelled by hand, from which a verifier's errors are counted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.evaluation.measuring import VerifierError, corrected
from src.evaluation.statistics import Interval
from src.types import InputError, Problem, Scorer
from src.utils.files import read_jsonl
from src.verifiers.judge import Judge, verdicts
from src.verifiers.tags import ANSWER, ANSWER_END, BOXED

FIELDS = {"gold": str, "answer": str, "correct": bool}


def read_labelled(file: Path) -> list[dict[str, Any]]:
    """Read labelled answers: one JSON object per line with ``gold`` and ``answer`` (texts) and ``correct`` (a truth).

    Raises:
        InputError: the file cannot be read, a line lacks a field, or the labels are all equal.
    """
    try:
        rows = list(read_jsonl(file))
    except (OSError, ValueError) as error:
        raise InputError(f"evaluation.labelled={file}: cannot be read as JSON lines: {error}") from error
    wrong = [
        f"evaluation.labelled={file}: line {number}: {name} must be {'true or false' if kind is bool else 'a text'}"
        for number, row in enumerate(rows, 1)
        for name, kind in FIELDS.items()
        if not isinstance(row, Mapping) or not isinstance(row.get(name), kind)
    ]
    if not wrong and len({row["correct"] for row in rows}) < 2:
        wrong = [f"evaluation.labelled={file}: needs both correct and wrong answers"]
    if wrong:
        raise InputError(*wrong)
    return rows


def verifier_error(scorer: Scorer, rows: list[dict[str, Any]]) -> VerifierError:
    """Count the errors of a verifier on labelled answers.

    Raises:
        InputError: it gives no verdict on some, as a task's own verifier that needs more than the gold answer; or its
            verdicts say nothing.
    """
    judge = scorer if isinstance(scorer, Judge) else Judge("verifier", scorer)
    before = judge.failures
    asked = [
        (Problem(f"labelled-{number}", "", row["gold"]), f"{ANSWER}{BOXED}{row['answer']}}}{ANSWER_END}")
        for number, row in enumerate(rows, 1)
    ]
    found = verdicts(judge, asked)
    if judge.failures > before:
        raise InputError(
            f"evaluation.labelled: verifier={judge.name} gives no verdict on {judge.failures - before} of {len(rows)} "
            "labelled answers; label answers that it can judge, or use verifier=math"
        )
    error = VerifierError.counted([float(row["correct"]) for row in rows], found)
    _check_informative(error)  # now, not after hours of sampling
    return error


def _check_informative(error: VerifierError) -> None:
    try:
        error.rates()
    except ValueError as problem:
        raise InputError(f"evaluation.labelled: {problem}") from problem


def with_error(measured: Interval, error: VerifierError) -> dict[str, Any]:
    """The entries of a summary: the error counts, and the accuracy corrected for them.

    Raises:
        InputError: the verifier accepts wrong answers as often as right ones.
    """
    _check_informative(error)
    true = corrected(measured, error)
    return {
        "verifier_error": vars(error),
        "corrected": {"accuracy": true.estimate, "low": true.low, "high": true.high},
    }
