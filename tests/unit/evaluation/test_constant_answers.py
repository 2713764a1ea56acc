"""How often a policy states one and the same answer."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.constant_answers import guesses


def chain(answer: str | None, gold: str) -> dict[str, Any]:
    return {"answer": answer, "gold": gold, "correct": float(answer == gold)}


def test_a_policy_that_states_one_answer_is_right_where_that_is_gold() -> None:
    chains = [chain("1", gold) for gold in ("1", "1", "2", "3", "4")]
    assert guesses(chains) == ("1", [1.0, pytest.approx(0.4), pytest.approx(0.4), 0.0])


def test_other_answers_and_missing_ones_count() -> None:
    chains = [chain("1", "1"), chain("1", "2"), chain("2", "2"), chain(None, "3")]
    assert guesses(chains) == ("1", [0.5, 0.5, 0.25, pytest.approx(1 / 3)])
    assert guesses([chain(None, "1")]) == ("", [0.0, 0.0, 0.0, 0.0])
    assert guesses([chain("1", "1")])[1][3] == 0.0
