"""Errors of measurement: corrected accuracies by hand and by simulation, effective sizes, flips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from src.evaluation.labelled import read_labelled, verifier_error, with_error
from src.evaluation.measuring import VerifierError, corrected, effective, flips, second_layout
from src.evaluation.statistics import Interval, wilson
from src.types import InputError, Problem
from src.verifiers.judge import Judge
from src.verifiers.tags import stated_answer


def test_a_verifier_without_errors_widens_the_interval_only() -> None:
    measured = wilson(0.4, 500)
    found = corrected(measured, VerifierError(0, 200, 0, 200))
    assert found.estimate == pytest.approx(0.4)
    assert found.high - found.low > measured.high - measured.low
    many = corrected(measured, VerifierError(0, 10**7, 0, 10**7))
    assert (many.low, many.high) == pytest.approx((measured.low, measured.high), abs=2e-3)


def test_the_estimate_is_that_of_rogan_and_gladen() -> None:
    """Of wrong answers 10 % are accepted, of right ones 20 % rejected: 0.4 = 0.8 p + 0.1 (1 - p)."""
    assert corrected(wilson(0.4, 500), VerifierError(10, 100, 20, 100)).estimate == pytest.approx(0.3 / 0.7)
    assert corrected(wilson(0.02, 500), VerifierError(10, 100, 20, 100)).estimate == 0.0


def test_a_verifier_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="as often as right ones"):
        corrected(wilson(0.4, 500), VerifierError(90, 100, 50, 100))
    with pytest.raises(InputError, match=r"evaluation\.labelled: the verifier accepts"):
        with_error(wilson(0.4, 500), VerifierError(90, 100, 50, 100))


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.4, 1.0])
@pytest.mark.parametrize("trials", [30, 500])
def test_the_size_behind_an_interval_is_found_again(rate: float, trials: int) -> None:
    assert effective(wilson(rate, trials)) == pytest.approx(trials, rel=1e-6)


@pytest.mark.parametrize(("problems", "labels"), [(30, 60), (500, 60), (500, 300)])
def test_corrected_intervals_cover_the_truth(problems: int, labels: int) -> None:
    rng, covered, times = np.random.default_rng(0), 0, 0
    for true, accepts, refuses in [(0.3, 0.9, 0.97), (0.6, 0.8, 0.9), (0.1, 0.95, 0.99)]:
        for _ in range(400):
            seen = rng.binomial(problems, true * accepts + (1 - true) * (1 - refuses)) / problems
            error = VerifierError(
                int(rng.binomial(labels, 1 - refuses)), labels, int(rng.binomial(labels, 1 - accepts)), labels
            )
            found = corrected(wilson(seen, problems), error)
            covered += found.low <= true <= found.high
            times += 1
    assert 0.93 <= covered / times <= 0.975


def test_flips_are_counted_in_both_directions() -> None:
    first, second = [[1.0, 0.0]] * 30, [[1.0, 0.0]] * 28 + [[0.0, 0.0], [1.0, 1.0]]
    assert flips(first, second).estimate == pytest.approx(2 / 60)
    same = flips(first, first)
    assert (same.estimate, same.low) == (0.0, 0.0)
    assert same.high == wilson(0.0, 30).high  # the floor is not 0 because no flip was seen


def labelled(folder: Path, *rows: object) -> Path:
    file = folder / "labelled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


GOOD = [{"gold": "4", "answer": "4", "correct": True}, {"gold": "4", "answer": "04", "correct": True}]
BAD = [{"gold": "4", "answer": "5", "correct": False}]


def spelled(problem: Problem, text: str) -> float:
    return float(stated_answer(text) == problem.answer)


def test_errors_are_counted_on_labelled_answers(tmp_path: Path) -> None:
    rows = read_labelled(labelled(tmp_path, *GOOD, *BAD))
    error = verifier_error(Judge("own", spelled), rows)
    assert error == VerifierError(accepted=0, wrong=1, rejected=1, right=2)
    summary = with_error(Interval(0.5, 0.4, 0.6), error)
    assert summary["verifier_error"] == {"accepted": 0, "wrong": 1, "rejected": 1, "right": 2}
    assert summary["corrected"]["low"] < summary["corrected"]["accuracy"] <= summary["corrected"]["high"]


def test_labelled_answers_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    for rows, words in (
        ([{"gold": "4", "answer": 4, "correct": "yes"}], "line 1: answer must be a text"),
        (GOOD, "needs both correct and wrong answers"),
        ([3], "line 1: gold must be a text"),
    ):
        with pytest.raises(InputError, match=words):
            read_labelled(labelled(tmp_path, *rows))
    file = tmp_path / "broken.jsonl"
    file.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON lines"):
        read_labelled(file)

    def fails(problem: Problem, text: str) -> float:
        return problem.metadata["table"]  # type: ignore[no-any-return]

    with pytest.raises(InputError, match="gives no verdict on 3 of 3 labelled answers"):
        verifier_error(Judge("own", fails), read_labelled(labelled(tmp_path, *GOOD, *BAD)))


@pytest.mark.parametrize(
    ("problems", "most", "at_once"),
    [
        (500, 16, 16),
        (500, 255, 128),  # 255 would be almost 256
        (300, 255, 127),  # with 128, the last 44 problems would be together in both
        (272, 16, 15),  # the same for the last 16
        (256, 255, 128),
        (3, 255, 2),
        (2, 255, 1),
        (1, 255, 1),  # refused before, or answered by another engine
        (257, 1, 1),  # the last problem is alone in both, which nothing can change
    ],
)
def test_the_second_layout_differs(problems: int, most: int, at_once: int) -> None:
    assert second_layout(problems, most, 256) == at_once
