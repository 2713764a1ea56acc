"""Measures of graphs, by hand on small ones: tokens in sequence, conditional shares, places, votes at equal tokens."""

from __future__ import annotations

from typing import Any

import pytest

from src.evaluation.graphs import (
    Aggregated,
    Draft,
    Graph,
    aggregations,
    by_sources,
    draft_vote,
    fitting,
    graph,
    judged_turns,
    quotes_several,
    scalars,
    sequential_tokens,
    summarized,
)
from src.evaluation.statistics import accuracy, majority, ratio
from src.types import Path, Problem, Rollout, Sampling, Status, Turn

PROBLEM = Problem("p", "Q", "1")


def turn(path: Path, tokens: int, sources: tuple[Path, ...] | None = None, right: bool = False, **more: Any) -> Turn:
    text = f"<answer>\\boxed{{{int(right)}}}</answer>"
    values: dict[str, Any] = {"status": Status.DONE, "completion": (1,) * tokens, "text": text, "sources": sources}
    return Turn(path, (0,), Sampling(99), **{**values, **more})


def verdict(turn: Turn) -> float:
    return float("{1}" in turn.text)


DRAFTS = (turn((0,), 10, right=True), turn((1,), 4), turn((2,), 30, right=True))
CHAIN = Rollout(PROBLEM, (turn((0,), 10), turn((0, 0), 5), turn((0, 0, 0), 2)))
GRAPH = Rollout(
    PROBLEM,
    (
        *DRAFTS,
        turn((0, 0), 5, ((1,), (0,)), right=True),
        turn((1, 0), 7, ((2,), (1,))),
        turn((2, 0), 100, ((0,), (2,)), right=True, status=Status.PRUNED),
        turn((0, 0, 0), 3, ((1, 0), (0, 0)), right=True),
    ),
)


def test_tokens_in_sequence_are_those_of_the_longest_chain_of_sources() -> None:
    assert [sequential_tokens(CHAIN, one) for one in CHAIN.turns] == [10, 15, 17]
    ends = {one.path: sequential_tokens(GRAPH, one) for one in GRAPH.turns}
    assert ends[0, 0] == 10 + 5
    assert ends[1, 0] == 30 + 7
    assert ends[0, 0, 0] == 30 + 7 + 3  # not the pruned turn, which the answer does not read
    assert GRAPH.tokens == 10 + 4 + 30 + 5 + 7 + 100 + 3


def test_tokens_of_the_environment_never_count() -> None:
    drafts = (turn((0,), 9, mask=(True,) * 4 + (False,) * 5), turn((1,), 6))
    rollout = Rollout(PROBLEM, (*drafts, turn((0, 0), 3, ((0,), (1,)), mask=(True, False, True))))
    assert sequential_tokens(rollout, rollout.turns[-1]) == 6 + 2
    assert rollout.tokens == 4 + 6 + 2


def test_aggregations_are_the_turns_that_quote_several() -> None:
    assert aggregations(GRAPH, verdict) == [
        Aggregated(True, (False, True)),
        Aggregated(False, (True, False)),
        Aggregated(True, (True, True)),  # written, then pruned by a vote
        Aggregated(True, (False, True)),
    ]
    assert aggregations(CHAIN, verdict) == []
    assert judged_turns([CHAIN, GRAPH]) == list(GRAPH.turns)
    assert [quotes_several([one]) for one in (CHAIN, GRAPH)] == [False, True]
    probes = Rollout(PROBLEM, (*DRAFTS, turn((0, 0), 5, ((1,), (0,)), probe=True)))
    failed = Rollout(PROBLEM, (*DRAFTS, turn((0, 0), 5, ((1,), (0,)), status=Status.FAILED)))
    assert [aggregations(one, verdict) for one in (probes, failed)] == [[], []]


T, F = True, False
FOUND = [
    [Aggregated(T, (F, F, F)), Aggregated(F, (F, F, F)), Aggregated(F, (F, F, F)), Aggregated(T, (T, F, F))],
    [Aggregated(F, (F, T, F)), Aggregated(T, (T, F, F)), Aggregated(T, (T, T, F))],
    [],
]


def counted(share: Any) -> tuple[int, int]:
    assert share["low"] <= share["estimate"] <= share["high"]
    assert share["estimate"] == share["count"] / share["total"]
    return share["count"], share["total"]


def test_conditional_shares_by_hand() -> None:
    found = by_sources(FOUND)
    assert found["aggregations"] == 7
    assert counted(found["right_if_all_wrong"]) == (1, 3)
    assert counted(found["wrong_if_some_right"]) == (1, 4)
    numbers = found["by_right_sources"]
    assert list(numbers) == ["0", "1", "2", "3"]
    assert [counted(numbers[name]) for name in ("0", "1", "2")] == [(1, 3), (2, 3), (1, 1)]
    places = found["by_position"]
    assert list(places) == ["1", "2", "3"]
    assert [counted(places[name]) for name in ("1", "2")] == [(2, 2), (0, 1)]
    assert (numbers["3"], places["3"]) == (None, None)  # no such aggregation: undefined, not 0


def test_without_aggregations_all_is_undefined() -> None:
    found = by_sources([[], []])
    assert (found["aggregations"], found["by_right_sources"]["0"], found["by_position"]) == (0, None, {})
    assert found["right_if_all_wrong"] is found["wrong_if_some_right"] is None
    assert scalars({**found, "sequential_tokens": 3.0}) == {"sequential_tokens": 3.0}
    assert scalars({**by_sources(FOUND), "sequential_tokens": 3.0}) == {
        "sequential_tokens": 3.0,
        "right_if_all_wrong": 1 / 3,
        "wrong_if_some_right": 1 / 4,
    }


def test_a_pooled_share_has_the_interval_of_accuracy_where_problems_have_equally_many_trials() -> None:
    rows = [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    found = ratio([(int(sum(row)), len(row)) for row in rows])
    assert found is not None
    wanted = accuracy(rows)
    assert (found.estimate, found.low, found.high) == pytest.approx((wanted.estimate, wanted.low, wanted.high))
    for rows in ([[1.0], [0.0], [1.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 1.0]]):
        assert ratio([(int(sum(row)), len(row)) for row in rows]) == accuracy(rows)
    assert ratio([(3, 4), (0, 0)]) == ratio([(3, 4)])
    assert ratio([(0, 0)]) is None


def test_one_large_problem_does_not_count_as_many() -> None:
    """The effective size of 97 trials of one problem and one trial of three others is near one."""
    clustered, spread = ratio([(50, 97), (1, 1), (0, 1), (1, 1)]), ratio([(1, 1)] * 52 + [(0, 1)] * 48)
    assert clustered is not None
    assert spread is not None
    assert clustered.estimate == spread.estimate == 0.52
    assert clustered.high - clustered.low > 2 * (spread.high - spread.low)


def draft(answer: str | None, tokens: int) -> Draft:
    return Draft(answer, float(answer == "1"), tokens)


def test_drafts_vote_as_far_as_the_budget_goes() -> None:
    drafts = [draft("1", 4), draft("2", 4), draft("2", 5), draft("1", 1)]
    assert [len(fitting(drafts, budget)) for budget in (0, 4, 7, 8, 12, 13, 14, 99)] == [1, 1, 1, 2, 2, 3, 4, 4]


def test_the_vote_at_the_tokens_of_the_aggregation_by_hand() -> None:
    """Sample 0 votes with its own drafts and the first of sample 1; sample 1 with its own and all of sample 0."""
    own = [[draft("1", 4), draft("2", 4)], [draft("2", 5), draft("01", 1)]]
    found = draft_vote([Graph([], [13, 15], [], own)])
    assert found["accuracy"] == pytest.approx((0 + 1 / 2) / 2)  # 1 against 2 twice; a tie of two votes each
    assert (found["drafts"], found["tokens"]) == ((3 + 4) / 2, (13 + 14) / 2)
    assert found["low"] <= found["accuracy"] <= found["high"]
    silent = draft_vote([Graph([], [13, 15], [], [[draft(None, 4)] * 2] * 2)])
    assert silent["accuracy"] == 0.0
    everyone = draft_vote([Graph([], [14, 14], [], own)])["accuracy"]
    assert everyone == majority([["1", "2", "2", "1"]], [[1.0, 0.0, 0.0, 1.0]])


def test_the_measures_of_one_graph() -> None:
    one = graph([GRAPH], [GRAPH.turns[-1]], [DRAFTS], verdict)
    assert (one.sequential, one.total) == ([40], [159])
    assert one.drafts == [[Draft("1", 1.0, 10), Draft("0", 0.0, 4), Draft("1", 1.0, 30)]]
    measures = summarized([one])
    assert (measures["sequential_tokens"], measures["total_tokens"], measures["aggregations"]) == (40.0, 159.0, 4)
    assert (measures["draft_vote"]["accuracy"], measures["draft_vote"]["drafts"]) == (1.0, 3.0)
    assert summarized([graph([GRAPH], [GRAPH.turns[-1]], [], verdict)])["draft_vote"] is None
