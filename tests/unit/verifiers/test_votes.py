"""Votes count answers by what they mean."""

from __future__ import annotations

from src.verifiers.votes import merged


def test_votes_are_merged_by_meaning() -> None:
    answers = ["1/2", "0.5", None, "x+1", "\\frac12", "1 + x", "X+1"]
    assert merged(answers) == ["1/2", "1/2", None, "x+1", "1/2", "x+1", "X+1"]


def test_another_meaning_can_be_given() -> None:
    assert merged(["a", "A", None, "b"], lambda left, right: left.casefold() == right.casefold()) == [
        "a",
        "a",
        None,
        "b",
    ]
