"""Search over rounds: what it opens, what it continues, and what it ranks when turns fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from src.rounds.base import Search
from src.rounds.carry.history import History
from src.rounds.growing import grow
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.rounds.search.value import Value
from src.rounds.search.vote import Vote
from src.types import Children, OnToken, Problem, Rollout, Sampling, Status, Turn
from tests.helpers.scripted import Letters, Scripted

PROMPTS = Prompts(first="{question}", later="{progress}", final="", item="{round}:{progress}")
PROBLEM = Problem("a", "1+1", "2")


def strategy(n: int, search: Search | None, probes: int = 0) -> MultiRound:
    budgets = {"context": 99, "first_tokens": 50, "later_tokens": 50, "progress_tokens": 40}
    return MultiRound(n=n, prompts=PROMPTS, carry=History(), search=search, probes=probes, **budgets)


def grown(rounds: MultiRound, script: Callable[[Turn], str], status: Status = Status.DONE) -> Rollout:
    return grow(Scripted(script, status=status), rounds, [PROBLEM], Letters(), ("key",))[0]


def says(turn: Turn) -> str:
    return f"<answer>p{turn.round}</answer>"


def turn(path: tuple[int, ...], answer: str, **about: Any) -> Turn:
    about = {"status": Status.DONE, "final": len(path) == 2, **about}
    return Turn(path, (1,), Sampling(9), text=f"<answer>\\boxed{{{answer}}}</answer>", **about)


def test_a_search_opens_candidates_and_probes_only_from_them() -> None:
    opened = strategy(2, Value(candidates=3), probes=2).open(PROBLEM, Letters())
    assert [(turn.path, turn.probe) for turn in opened] == [((0,), False), ((1,), False), ((2,), False)]


def test_the_best_candidate_is_continued_with_its_own_history() -> None:
    rollout = grown(strategy(3, Vote(candidates=2)), says)
    assert {turn.carried for turn in rollout.level(2)} == {"1:p1"}
    assert {turn.carried for turn in rollout.level(3)} == {"1:p1\n2:p2"}


def test_a_search_by_value_is_evaluated_with_its_probes() -> None:
    evaluated = strategy(3, Value(candidates=2), probes=2).independent(2, 1, 1.0, 1.0)
    assert (evaluated.n, evaluated.probes, evaluated.widths) == (2, 2, (2, 2))
    assert strategy(3, None, probes=2).independent(2, 1, 1.0, 1.0).probes == 0


@pytest.mark.parametrize("search", [Vote(candidates=2), Value(candidates=2)])
def test_a_tree_whose_turns_all_failed_ends(search: Search) -> None:
    rollout = grown(strategy(2, search, probes=1), says, Status.FAILED)
    assert [(turn.path, turn.status) for turn in rollout.turns] == [((0,), Status.FAILED), ((1,), Status.FAILED)]
    assert rollout.leaves() == []


def test_failed_probes_do_not_count() -> None:
    """Of the live probes, half of the first candidate's and all of the second's end with 7."""
    rounds = strategy(2, Value(candidates=2), probes=2)
    turns = [turn((0,), "1"), turn((1,), "2")]
    turns += [turn(path, answer, probe=True) for path, answer in [((0, 2), "3"), ((0, 3), "7"), ((1, 2), "7")]]
    turns.append(turn((1, 3), "9", probe=True, status=Status.FAILED))
    pruned, new = rounds.settle(PROBLEM, turns, Letters())
    assert [turn.path for turn in pruned] == [(0,)]
    assert [turn.path for turn in new] == [(1, 0), (1, 1)]


class Streaming(Scripted):
    """Reports every turn's number of characters as a token."""

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        done = super().generate(turns, children)
        for one in done:
            assert on_token is not None
            on_token(one, len(one.text))
        return done


def test_tokens_are_streamed_as_they_are_sampled() -> None:
    seen: list[int] = []
    grow(
        Streaming(says), strategy(1, None), [PROBLEM], Letters(), ("key",), on_token=lambda _, token: seen.append(token)
    )
    assert seen == [len("<answer>p1</answer>")] * 8
