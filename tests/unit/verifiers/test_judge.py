"""What goes wrong in a verifier costs verdicts and is counted; it never ends a run."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from src.types import Problem
from src.verifiers.judge import Judge, failures, judged, verdicts

PROBLEM = Problem("p", "q", "7")


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (ZeroDivisionError("oh"), "it raised ZeroDivisionError: oh"),
        (float("nan"), "out of time"),
        (None, "it returned None"),
        ("1", "it returned '1'"),
        ([1.0], r"it returned \[1.0\]"),
        (1.5, "it returned 1.5"),
        (-0.1, "it returned -0.1"),
        (float("inf"), "it returned inf"),
    ],
)
def test_no_verdict_is_a_zero_that_is_counted_and_said_once(
    verdict: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def scorer(problem: Problem, text: str) -> float:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict  # type: ignore[return-value]

    judge = Judge("mine", scorer)
    with caplog.at_level(logging.WARNING):
        assert judge.all([(PROBLEM, "a"), (PROBLEM, "b"), (PROBLEM, "c")]) == [0.0, 0.0, 0.0]
    assert judge.failures == 3
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("verifier mine gave no verdict on an answer to p: ")
    assert reason.replace("\\", "") in caplog.records[0].getMessage()


@pytest.mark.parametrize(("verdict", "score"), [(True, 1.0), (0, 0.0), (0.25, 0.25)])
def test_numbers_from_0_to_1_are_verdicts(verdict: float, score: float) -> None:
    judge = Judge("mine", lambda problem, text: verdict)
    assert judge(PROBLEM, "a") == score
    assert judge.failures == 0


def test_texts_are_judged_at_once_and_each_one_once() -> None:
    asked: list[str] = []
    together = threading.Barrier(3, timeout=10)

    def scorer(problem: Problem, text: str) -> float:
        asked.append(text)
        together.wait()
        return float(text) / 10

    judge = Judge("slow", scorer, at_once=3)
    texts = ["3", "1", "2", "3", "6", "5", "4", "1"]
    assert judge.all([(PROBLEM, text) for text in texts]) == [float(text) / 10 for text in texts]
    assert sorted(asked) == ["1", "2", "3", "4", "5", "6"]
    assert judge.all([]) == []


def test_an_interrupt_stops_after_the_texts_that_are_being_judged() -> None:
    asked: list[str] = []

    def scorer(problem: Problem, text: str) -> float:
        asked.append(text)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.2)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        Judge("slow", scorer, at_once=2).all([(PROBLEM, str(n)) for n in range(50)])
    assert len(asked) < 5


def test_what_is_known_is_not_asked_again() -> None:
    asked: list[str] = []

    def scorer(problem: Problem, text: str) -> float:
        asked.append(text)
        return 1.0

    score = judged(scorer, [(PROBLEM, "a"), (PROBLEM, "b")])
    assert [score(PROBLEM, text) for text in "abcc"] == [1.0] * 4
    assert asked == ["a", "b", "c"]


def test_plain_scorers_serve_too() -> None:
    assert verdicts(lambda problem, text: float(text), [(PROBLEM, "1"), (PROBLEM, "0")]) == [1.0, 0.0]
    assert failures([lambda problem, text: 0.0]) == 0
