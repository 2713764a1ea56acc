"""Settings of rounds and problems that are refused, and the nearest ones that are allowed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from src.rounds.carry.answer import Answer
from src.rounds.carry.tail import Tail
from src.rounds.growing import grow
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.rounds.search.value import Value
from src.rounds.search.vote import Vote
from src.types import InputError, Problem
from tests.helpers.scripted import Letters, Scripted
from tests.helpers.sections import mistakes, run_mistakes

PROMPTS = Prompts(first="{question}", later="{question}|{progress}", final="", item="{progress}")
PROBLEM = Problem("a", "12345", "6")

BUDGETS: dict[str, Any] = {"context": 100, "first_tokens": 50, "later_tokens": 50, "progress_tokens": 20}


def values(n: int = 2, **changes: Any) -> dict[str, Any]:
    return {"n": n, "prompts": PROMPTS, "carry": Answer(), **BUDGETS, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 10**13}, "n=10000000000000 must be in [1, 10000]"),
        ({"branching": [3]}, "rounds.branching=[3] must be 2 numbers"),
        ({"branching": [3, 2, 1]}, "rounds.branching=[3, 2, 1] must be 2 numbers"),
        ({"branching": []}, "rounds.branching=[] must be 2 numbers"),
        ({"branching": [3, 0]}, "rounds.branching=[3, 0] must be 2 numbers"),
        ({"branching": [3, 1]}, None),
        ({"carry": Tail(), "ending": "concludes"}, "rounds.ending=concludes"),
        ({"carry": Tail(), "ending": "fixed"}, None),
        ({"carry": Answer(), "ending": "concludes"}, None),
        ({"search": Value(), "probes": 0}, "rounds.probes=0"),
        ({"search": Value(), "probes": 1}, None),
        ({"search": Vote(), "probes": 0}, None),
        ({"progress_tokens": 100}, "rounds.progress_tokens=100 fills the whole context of 100"),
        ({"progress_tokens": 99}, None),
        ({"progress_tokens": 100, "n": 1}, None),
    ],
)
def test_values_that_conflict(changes: dict[str, Any], words: str | None) -> None:
    found = mistakes(MultiRound, **values(**changes))
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": Vote(), "probes": 0}, "rounds.probes=1 or more"),
        ({"search": Vote(), "probes": 1}, None),
        ({"search": Vote(), "probes": 0, "n": 1}, None),
        ({"search": None, "probes": 0}, None),
        ({"search": None, "probes": 0, "n": 1}, None),
        ({"top_p": 0.99}, "rounds.top_p=0.99"),
        ({"top_p": 1.0}, None),
        ({"temperature": 0.0}, "rounds.temperature=0"),
        ({"temperature": 0.1}, None),
        ({"temperature": 1.0}, None),
    ],
)
def test_values_that_cannot_train(changes: dict[str, Any], words: str | None) -> None:
    strategy = MultiRound(**values(**changes))
    found = run_mistakes(strategy, reward=SimpleNamespace())
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
    assert run_mistakes(strategy, reward=None) == []  # nothing is trained


def longest(strategy: MultiRound) -> str:
    """The error message about the problem, or the empty string."""
    try:
        strategy.check_problem(PROBLEM, Letters())
    except InputError as error:
        return str(error)
    return ""


def test_a_prompt_must_leave_room_for_one_token() -> None:
    """The question takes 5 tokens. What is allowed before the run can be generated, down to a single token."""
    full, fits = (MultiRound(**values(1, context=context)) for context in (5, 6))
    assert "its first prompt takes 5 tokens of a context of 5" in longest(full)
    assert longest(fits) == ""
    with pytest.raises(InputError, match="problem 'a', round 1"):
        full.open(PROBLEM, Letters())
    assert {turn.sampling.max_new_tokens for turn in fits.open(PROBLEM, Letters())} == {1}


def test_the_longest_later_prompt_must_fit() -> None:
    """5 tokens of question, one separator and at most 20 of progress."""
    assert "takes 26 tokens of a context of 26" in longest(MultiRound(**values(2, context=26)))
    fits = MultiRound(**values(2, context=27))
    assert longest(fits) == ""
    grown = grow(Scripted(lambda turn: "x" * 50), fits, [PROBLEM], Letters(), ("key",))[0]
    assert {turn.sampling.max_new_tokens for turn in grown.level(2)} == {1}


def test_a_continued_message_repeats_the_first_prompt() -> None:
    """With a tail the later prompt is the question and the carried tokens, without the separator."""
    assert "takes 25 tokens" in longest(MultiRound(**values(2, context=25, carry=Tail())))
    assert longest(MultiRound(**values(2, context=26, carry=Tail()))) == ""


@pytest.mark.parametrize(("n", "advised"), [(1, False), (2, True), (3, True)])
def test_a_shorter_progress_is_advised_where_there_is_one(n: int, advised: bool) -> None:
    text = longest(MultiRound(**values(n, context=5, progress_tokens=4)))
    assert ("rounds.progress_tokens," in text) == advised
    assert text.endswith("or raise model.context.")
