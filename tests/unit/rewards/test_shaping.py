"""Shaping terms (length, repetition), and normalisation of terms before the sum."""

from __future__ import annotations

import math
import statistics
from types import SimpleNamespace

import pytest

from src.algorithms.grpo import GRPO
from src.credit.first import First
from src.rewards.base import Reward, normalised
from src.rewards.efficiency import Efficiency
from src.rewards.format import Format
from src.rewards.length import Length
from src.rewards.outcome import Outcome
from src.rewards.overlong import Overlong
from src.rewards.repetition import Repetition
from src.training.step_metrics import describe
from src.types import Path, Problem, Rollout, Sampling, Scores, Status, Turn

PROBLEM = Problem("p", "?", "7")


def turn(tokens: int | tuple[int, ...], budget: int, path: Path = (0,), text: str = "") -> Turn:
    completion = tuple(range(tokens)) if isinstance(tokens, int) else tokens
    return Turn(path, (1,), Sampling(budget), status=Status.DONE, completion=completion, text=text)


def score(term: Overlong | Length | Repetition, one: Turn) -> float:
    return term.score(PROBLEM, one, lambda problem, text: 0.0)


def equation_13(length: int, longest: int, cache: int) -> float:
    if length <= longest - cache:
        return 0.0
    if length <= longest:
        return ((longest - cache) - length) / cache
    return -1.0


@pytest.mark.parametrize("length", [0, 16383, 16384, 16385, 18432, 20479, 20480])
def test_the_overlong_penalty_equals_dapos(length: int) -> None:
    found = score(Overlong(), turn(length, 20480))
    assert found == pytest.approx(equation_13(length, 20480, 4096), abs=1e-12)


@pytest.mark.parametrize(("length", "expected"), [(30, 0.0), (32, 0.0), (36, -0.5), (40, -1.0)])
def test_the_buffer_is_a_share_of_the_turns_own_budget(length: int, expected: float) -> None:
    assert score(Overlong(buffer=0.2), turn(length, 40)) == pytest.approx(expected, abs=1e-12)


def test_tokens_beyond_the_budget_cost_no_more() -> None:
    assert score(Overlong(buffer=0.2), turn(60, 40)) == -1.0
    assert score(Length(shape="linear"), turn(60, 40)) == -1.0


@pytest.mark.parametrize(("limit", "rounds", "expected"), [(4, 1, 1.0), (4, 2, 1 - 1 / 16), (4, 3, 0.75), (2, 3, 0.0)])
def test_efficiency_discounts_a_right_answer_by_the_square_of_its_rounds(
    limit: int, rounds: int, expected: float
) -> None:
    one = Turn((0,) * rounds, (1,), Sampling(9), text="\\boxed{7}", status=Status.DONE)
    asked: list[tuple[str, str]] = []

    def scorer(problem: Problem, text: str) -> float:
        asked.append((problem.id, text))
        return 1.0

    term = Efficiency(limit=limit)
    assert term.score(PROBLEM, one, scorer) == pytest.approx(expected)
    assert asked == [(PROBLEM.id, "\\boxed{7}")]
    assert term.score(PROBLEM, one, lambda problem, text: 0.0) == 0.0


def test_efficiency_needs_rounds_that_can_end_early() -> None:
    term = Efficiency(limit=3)
    fixed = SimpleNamespace(rounds=SimpleNamespace(ends_early=False, n=3))
    (error,) = term.check_run(fixed)  # type: ignore[arg-type]
    assert "rounds.ending=concludes" in error
    for rounds in (None, SimpleNamespace(ends_early=True, n=3)):
        assert list(term.check_run(SimpleNamespace(rounds=rounds))) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "used", "expected"),
    [
        ("linear", 0, 0.0),
        ("linear", 10, -0.25),
        ("linear", 40, -1.0),
        ("cosine", 0, 0.0),
        ("cosine", 10, (math.sqrt(0.5) - 1) / 2),
        ("cosine", 20, -0.5),
        ("cosine", 40, -1.0),
    ],
)
def test_the_length_penalty_grows_with_every_token(shape: str, used: int, expected: float) -> None:
    assert score(Length(shape=shape), turn(used, 40)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        ((1, 2, 3, 4), 2, 0.0),
        ((1, 2, 1, 2, 1), 2, -2 / 4),  # 12 21 12 21
        ((5, 5, 5, 5), 1, -3 / 4),
        ((5, 5, 5, 5), 4, 0.0),
        ((5, 5), 3, 0.0),  # too short to repeat
        ((), 1, 0.0),
    ],
)
def test_repetition_is_the_share_of_ngrams_seen_before(tokens: tuple[int, ...], size: int, expected: float) -> None:
    assert score(Repetition(size=size), turn(tokens, 99)) == pytest.approx(expected, abs=1e-12)


# normalised before they are summed

RIGHT = "<reasoning>x</reasoning><answer>\\boxed{7}</answer>"
TREE = Rollout(
    PROBLEM,
    (
        turn(10, 40, (0,), RIGHT),
        turn(20, 40, (1,), "?"),
        turn(40, 40, (2,), RIGHT),
        turn(10, 40, (0, 0), RIGHT),
        turn(10, 40, (0, 1), "\\boxed{8}"),
        turn(30, 40, (2, 0), RIGHT),
    ),
)
TERMS = {"outcome": Outcome(weight=2.0), "length": Length(weight=0.5), "format": Format(weight=1.0)}


def scored(normalise: str) -> Scores:
    reward = Reward(terms=TERMS, normalise=normalise)
    return reward.score([TREE], lambda problem, text: float("{7}" in text))[0]


def against_siblings(numbers: list[float]) -> list[float]:
    return [(one - statistics.fmean(numbers)) / (statistics.stdev(numbers) + 1e-4) for one in numbers]


def test_each_term_is_normalised_among_siblings_then_weighted() -> None:
    before, after = scored("before"), scored("after")
    outcome = against_siblings([0.5, 0.0, 1.0])
    length = against_siblings([-0.25, -0.5, -1.0])
    form = against_siblings([1.0, 0.0, 1.0])
    expected = [2 * o + 0.5 * size + f for o, size, f in zip(outcome, length, form, strict=True)]
    assert [before.values[index,] for index in range(3)] == pytest.approx(expected, rel=1e-12)
    below = [2 * o + f for o, f in zip(against_siblings([1.0, 0.0]), against_siblings([1.0, 0.0]), strict=True)]
    assert [before.values[0, index] for index in range(2)] == pytest.approx(below, rel=1e-12)  # equal lengths: nothing
    assert before.values[2, 0] == 0.0  # an only child
    assert (before.terms, before.correct) == (after.terms, after.correct)
    assert before.rewards == after.rewards == after.values


def test_a_term_of_small_variance_still_counts() -> None:
    # Summed first, rewards (1, 1 + 0.1) and (0, 2) are told apart by their spread alone: both pairs come out the same.
    tables = [{(0,): 1.0, (1,): 1.1}, {(0,): 0.0, (1,): 2.0}]
    assert [normalised(table)[1,] for table in tables] == pytest.approx([math.sqrt(0.5)] * 2, rel=2e-3)


def test_equal_siblings_normalise_to_exactly_zero() -> None:
    assert normalised({(index,): 0.1 for index in range(3)} | {(0, 0): 5.0}) == {
        (0,): 0.0,
        (1,): 0.0,
        (2,): 0.0,
        (0, 0): 0.0,
    }
    assert normalised({}) == {}


def test_metrics_show_the_plain_reward() -> None:
    shown = []
    for normalise in ("before", "after"):
        scores = scored(normalise)
        credited = First().rows([TREE], [scores], GRPO(scale="batch").advantages)
        shown.append(describe([TREE], [scores], credited))
    assert shown[0]["reward"] == shown[1]["reward"] == pytest.approx((2 * 1.5 - 0.5 * 1.75 + 2) / 3)
