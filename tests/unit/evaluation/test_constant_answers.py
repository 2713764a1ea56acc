"""How often a policy states one and the same answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.constant_answers import row
from src.evaluation.answers import repeated
from src.utils.files import write_jsonl


def chain(problem: int, answer: str | None, gold: str, correct: float | None = None) -> dict[str, Any]:
    return {"id": str(problem), "answer": answer, "gold": gold, "correct": correct or float(answer == gold)}


def test_a_policy_that_states_one_answer_is_right_where_that_is_gold() -> None:
    chains = [chain(number, "1", gold) for number, gold in enumerate(("1", "1", "2", "3", "4"))]
    assert repeated(chains) == {"answer": "1", "stated": 1.0, "gold": pytest.approx(0.4), "elsewhere": 0.0}


def test_other_answers_and_missing_ones_count(tmp_path: Path) -> None:
    chains = [chain(0, "1", "1"), chain(1, "1", "2"), chain(2, "2", "2"), chain(3, None, "3")]
    assert repeated(chains) == {"answer": "1", "stated": 0.5, "gold": 0.25, "elsewhere": pytest.approx(1 / 3)}
    write_jsonl(tmp_path / "some.jsonl", chains)
    assert row(tmp_path / "some.jsonl")[1:] == ["1", "50.0", "50.0", "25.0", "33.3"]


def test_an_answer_that_is_judged_right_counts_for_all_answers_to_its_problem() -> None:
    """The verifier may accept a text that is not the gold text."""
    chains = [chain(0, "1.0", "1", 1.0), chain(0, "7", "1"), chain(1, "1.0", "5"), chain(1, "5", "5")]
    assert repeated(chains) == {"answer": "1.0", "stated": 0.5, "gold": 0.5, "elsewhere": 0.5}


def test_without_answers_or_other_problems_there_is_no_number(tmp_path: Path) -> None:
    assert repeated([chain(0, None, "1")]) is None
    found = repeated([chain(0, "1", "1")])
    assert found is not None
    assert found["elsewhere"] is None
    write_jsonl(tmp_path / "none.jsonl", [chain(0, None, "1")])
    assert row(tmp_path / "none.jsonl")[1:] == ["-", "0.0", "0.0", "-", "-"]
