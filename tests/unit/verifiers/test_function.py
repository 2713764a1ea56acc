"""A plain function as the verifier."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from src.types import Problem
from src.verifiers.function import Function

HERE = __name__


def close(question: str, gold: str, answer: str, within: float = 0.0) -> float:
    return float(abs(float(gold) - float(answer)) <= within)


def lengths(question: str, gold: str, answer: str) -> float:
    return len(answer) / 100


def score(verifier: Function, text: str) -> float:
    return verifier.scorer(lambda problem, text: math.nan)(Problem("p", "q", "7"), text)


def test_it_is_called_with_the_stated_answer_and_its_settings() -> None:
    assert score(Function(function=f"{HERE}.close"), "<answer>\\boxed{7}</answer>") == 1.0
    assert score(Function(function=f"{HERE}.close"), "<answer>\\boxed{8}</answer>") == 0.0
    assert score(Function(function=f"{HERE}.close", settings={"within": 1.0}), "\\boxed{8}") == 1.0
    assert score(Function(function=f"{HERE}.close"), "no box") == 0.0
    assert Function(function=f"{HERE}.close").name == "close"


def test_it_can_be_called_with_the_whole_text() -> None:
    assert score(Function(function=f"{HERE}.lengths", whole=True), "no box") == 0.06


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("close", {}, "verifier.function=close cannot be imported: it has no module; use <module>.<function>"),
        ("nowhere.close", {}, "verifier.function=nowhere.close cannot be imported: No module named 'nowhere'"),
        (f"{HERE}.far", {}, "cannot be imported: module"),
        (f"{HERE}.close", {"beyond": 1}, "does not take (question, gold, answer) and settings: got an unexpected"),
        (f"{HERE}.HERE", {}, "is not a callable object"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(function: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Function(function=function, settings=settings)
    assert message in str(error.value)
