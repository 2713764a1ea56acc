"""Whether answers mean the same: against a table made by hand, the golds of real benchmarks, and hostile text."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import re
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from src.config import ROOT
from src.types import Problem
from src.verifiers.equivalence import Equivalence, explodes
from src.verifiers.normalization import tidy, verdict
from src.verifiers.numbers import number
from src.verifiers.sandbox import LONGEST_ANSWER, InterruptedVerdictError
from src.verifiers.units import quantity
from tests.helpers.hostile import hostile

DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the benchmarks are not in {DATA}")


def pairs() -> list[tuple[str, str, bool]]:
    """Gold, answer and whether they mean the same, from tests/data/pairs.txt."""
    lines = (Path(__file__).parents[2] / "data" / "pairs.txt").read_text("utf-8").splitlines()
    found = [re.fullmatch(r"(.*?) ([=!]=)(?: (.*))?", line) for line in lines if line and not line.startswith("#")]
    return [(one[1], one[3] or "", one[2] == "==") for one in found if one]


@pytest.fixture(scope="module")
def equivalent() -> Equivalence:
    return Equivalence()


def test_the_table_made_by_hand(equivalent: Equivalence) -> None:
    table = pairs()
    assert len(table) > 550
    assert sum(same for *_, same in table) > 250
    wrong = [(gold, answer, same) for gold, answer, same in table if equivalent(gold, answer) != same]
    assert wrong == []


def test_what_needs_no_algebra_starts_no_process() -> None:
    settled = [verdict(tidy(gold), tidy(answer)) for gold, answer, _ in pairs()]
    assert sum(one is not None for one in settled) > len(settled) / 3
    equivalent = Equivalence()
    easy = [("42", "42"), ("42", "43"), ("073", "73"), ("1,080", "1080"), ("\\text{east}", "West"), ("1/2", "0.5")]
    assert [equivalent(*pair) for pair in easy] == [True, False, True, True, False, True]
    assert "verifier" not in vars(equivalent)


def rows(file: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / file).read_text("utf-8").splitlines()]


def golds(file: str) -> list[str]:
    return [str(row["answer"]).rpartition("####")[2].strip() for row in rows(file)]


@needs_data
@pytest.mark.parametrize(
    ("file", "count", "alike"),
    [
        ("gsm8k/train.jsonl", 7473, 0),
        ("gsm8k/test.jsonl", 1319, 0),
        ("math500/test.jsonl", 500, 1),
        ("aime2024/test.jsonl", 30, 0),
    ],
)
def test_every_gold_is_right_and_its_neighbours_is_not(
    equivalent: Equivalence, file: str, count: int, alike: int
) -> None:
    answers = golds(file)
    problems = [Problem(str(index), "", gold) for index, gold in enumerate(answers)]
    assert len(problems) == count
    boxed = [f"<answer>\\boxed{{{gold}}}</answer>" for gold in answers]
    assert [
        gold
        for gold, problem, text in zip(answers, problems, boxed, strict=True)
        if equivalent.score(problem, text) != 1
    ] == []
    following = [*range(1, count), 0]
    accepted = [
        (answers[i], answers[j])
        for i, j in enumerate(following)
        if answers[i] != answers[j] and equivalent.score(problems[i], boxed[j])
    ]
    assert accepted == [("5", "x=5")] * alike  # written differently, and the same answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("42", 42),
            ("-42", -42),
            ("+42", 42),
            ("- 42", -42),
            ("007", 7),
            ("1,234", 1234),
            ("1 234 567", 1234567),
            ("(5)", 5),
        ],
        *[
            (".5", Fraction(1, 2)),
            ("2.", 2),
            ("1,234.5", Fraction(2469, 2)),
            ("\\frac34", Fraction(3, 4)),
            ("-3/4", Fraction(-3, 4)),
        ],
        *[("2\\frac{1}{2}", Fraction(5, 2)), ("-2 1/2", Fraction(-5, 2)), ("\\frac{-1}{2}", Fraction(-1, 2))],
        *[("6.72e-5", Fraction(672, 10**7)), ("1.2 \\times 10^{3}", 1200), ("5 \\cdot 10^2", 500)],
        *[
            ("1,23", None),
            ("1,2345", None),
            ("1 2", None),
            ("", None),
            (".", None),
            ("-", None),
            ("1/0", None),
            ("\\frac00", None),
        ],
        *[
            ("x", None),
            ("1e9999", None),
            ("1.2.3", None),
            ("2\\frac{-1}{2}", None),
            ("(1,234)", None),
            ("٣", 3),
            ("½", None),
        ],
    ],
)
def test_numbers(text: str, value: Fraction | None) -> None:
    found = number(text)
    assert (found and found.value) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[
            ("\\$5", ("5", "dollar")),
            ("$5", ("5", "dollar")),
            ("€5", ("5", "euro")),
            ("-$5", ("-5", "dollar")),
            ("5\\%", ("5", "%")),
        ],
        *[("5 cm^2", ("5", "cm^2")), ("5 \\text{ square centimeters}", ("5", "cm^2")), ("5 inches", ("5", "inch"))],
        *[
            ("5^\\circ", ("5", "degree")),
            ("5 red apples", ("5", None)),
            ("5\\text{ apples}", ("5", None)),
            ("5cm", ("5", "cm")),
        ],
        *[
            ("5x", ("5x", None)),
            ("5 ab", ("5 ab", None)),
            ("\\sqrt{2}\\text{ m}", ("\\sqrt{2}", "m")),
            ("cm", ("cm", None)),
        ],
        *[("5 miles per hour", ("5", "mph")), ("5 \\pi", ("5 \\pi", None)), ("5 in", ("5", "inch"))],
    ],
)
def test_units(text: str, expected: tuple[str, str | None]) -> None:
    assert quantity(tidy(text)) == expected


@pytest.mark.parametrize(
    ("text", "large"),
    [
        *[("2^{10}", False), ("x^{99999}", False), ("10^{100000}", True), ("9^{9^{9}}", True), ("2^{3^{4}}", False)],
        *[
            ("9**9**9**9", True),
            ("2^2^2^2", True),
            ("999!", False),
            ("1000!", True),
            ("(1234)!", True),
            ("3!!", True),
            ("n!", False),
        ],
    ],
)
def test_what_is_too_large_is_seen(text: str, large: bool) -> None:
    assert explodes(text) is large


def test_nothing_stated_is_wrong(equivalent: Equivalence) -> None:
    problem = Problem("p", "", "42")
    assert [
        equivalent.score(problem, text) for text in ("", "42", "\\boxed{}", "\\boxed{42", "<answer>42</answer>")
    ] == [0.0] * 5
    assert equivalent.score(problem, "\\boxed{41}<answer>\\boxed{42}</answer>") == 1.0
    assert not equivalent("42", "0" * LONGEST_ANSWER + "42")


def judged_hostile(count: int, seconds: float) -> Equivalence:
    """Judge hostile answers; each within its limit and the start of another process."""
    equivalent = Equivalence(seconds=seconds, memory_mb=256)
    assert equivalent("x+1", "1+x")
    for index, text in enumerate(hostile(count)):
        gold = ("42", "\\frac{1}{2}", "x^2+1", "(2,\\infty)", "\\sqrt{2}", "\\text{east}")[index % 6]
        begin = time.perf_counter()
        assert not equivalent(gold, text) or tidy(text) == tidy(gold), (gold, text)
        score = equivalent.score(Problem("p", "", gold), f"\\boxed{{{text}}}" if index % 2 else text)
        assert score in (0.0, 1.0) or math.isnan(score)
        assert time.perf_counter() - begin < 300, text[:200]
    return equivalent


def test_hostile_answers_are_wrong_in_bounded_time() -> None:
    assert judged_hostile(300, 0.5).verifier.failures < 120  # most are read, and each is asked for twice


@pytest.mark.slow
def test_ten_thousand_hostile_answers() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    judged_hostile(10_000, 1.0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB, of this process
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1200 * 1024


ALGEBRA = [("x+1", "1+x", True), ("x+1", "x", False), ("(1,2]", "[1,2]", False), ("\\sqrt{8}", "2\\sqrt{2}", True)]


def test_threads_share_a_process(equivalent: Equivalence) -> None:
    fresh = Equivalence()
    work = ALGEBRA * 16
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: fresh(one[0], one[1]), work)) == [same for *_, same in work]
    assert fresh.verifier.failures == 0


_SHARED = Equivalence()


def judged(one: tuple[str, str, bool]) -> bool:
    return _SHARED(one[0], one[1])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_have_judges_of_their_own(method: str) -> None:
    assert _SHARED("x+y", "y+x")  # a process is there, which a fork must not use
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(judged, ALGEBRA) == [same for *_, same in ALGEBRA]
    assert _SHARED("x+z", "z+x")


def test_a_verdict_is_asked_again_if_the_child_is_killed() -> None:
    fresh = Equivalence()
    assert fresh("x+1", "1+x")
    os.kill(fresh.verifier._idle[0].pid, signal.SIGKILL)
    assert fresh("x+2", "2+x")
    assert fresh.verifier.failures == 0


def test_a_verdict_that_is_interrupted_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Equivalence()

    def killed(*request: object) -> float:
        raise InterruptedVerdictError

    monkeypatch.setattr(fresh, "verifier", killed)
    assert math.isnan(fresh.verdict("x+1", "1+x"))
    assert not fresh("x+1", "1+x")
    assert math.isnan(fresh.score(Problem("p", "", "x+1"), "\\boxed{1+x}"))
    assert fresh.score(Problem("p", "", "x+1", {"answers": ("1+x",)}), "\\boxed{1+x}") == 1.0
    monkeypatch.setattr(fresh, "verifier", lambda gold, answer, tolerance: 1.0)
    assert fresh("x+1", "1+x")


def test_an_answer_that_runs_into_a_limit_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, asked = Equivalence(), []

    def slow(*request: object) -> float:
        asked.append(request)
        return math.nan

    monkeypatch.setattr(fresh, "verifier", slow)
    assert [math.isnan(fresh.verdict("x+1", "1+x")) for _ in range(3)] == [True] * 3
    assert len(asked) == 1


TOLERANCES = [
    *[("1.2566", "1.2567", 1e-4, True), ("1.2566", "1.2568", 1e-4, False), ("1.2566", "1.2567", 0.0, False)],
    *[("2.7778e-6", "2.7779e-6", 1e-4, True), ("6.67 \\times 10^{-11}", "6.6701e-11", 1e-4, True)],
    *[("0", "1e-9", 1e-4, False), ("-5", "5", 1e-1, False), ("\\sqrt{2}", "1.4142", 1e-4, True)],
    *[("\\sqrt{2}", "1.41", 1e-4, False), ("1.4142", "\\sqrt{2}", 1e-4, True), ("x+1", "x+1.0001", 1e-1, False)],
    *[("3 \\text{ cm}", "3.0001 \\text{ m}", 1e-4, False), ("3 \\text{ cm}", "3.0001 cm", 1e-4, True)],
]


@pytest.mark.parametrize(("gold", "answer", "tolerance", "right"), TOLERANCES)
def test_a_tolerance_is_relative_to_the_gold(
    equivalent: Equivalence, gold: str, answer: str, tolerance: float, right: bool
) -> None:
    problem = Problem("p", "", gold, {"tolerance": tolerance})
    assert equivalent.score(problem, f"\\boxed{{{answer}}}") == right


def test_it_travels_as_its_settings() -> None:
    copy = pickle.loads(pickle.dumps(Equivalence(seconds=3.0, memory_mb=99)))
    assert (copy.seconds, copy.memory_mb) == (3.0, 99)
