"""Values of turns, term by term, on trees small enough to compute by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from src.config import compose
from src.rewards.base import Reward, backed_up, correctness
from src.rewards.format import Format
from src.rewards.immediate import Immediate
from src.rewards.majority import Majority
from src.rewards.outcome import Outcome
from src.rewards.random import Random
from src.types import InputError, Path, Problem, Rollout, Sampling, Scores, Status, Turn
from src.verifiers.tags import stated_answer

PROBLEM = Problem("p", "3+4", "7")
RIGHT = "<reasoning>x</reasoning><answer>\\boxed{7}</answer>"
WRONG = "<reasoning>x</reasoning><answer>\\boxed{8}</answer>"
BARE = "\\boxed{7}"  # right, and not in the tags
SILENT = "<reasoning>x</reasoning><answer>7</answer>"  # in the tags, and states nothing

DEAD = (Status.OPEN, Status.PRUNED, Status.FAILED)


def exact(problem: Problem, text: str) -> float:
    return float(stated_answer(text) == problem.answer)


def tree(texts: Mapping[Path, str], states: Mapping[Path, Status] | None = None) -> Rollout:
    """A tree ordered by round and then by path; every turn is done unless ``states`` says otherwise."""
    states = states or {}
    turns = [
        Turn(path, (1,), Sampling(9), text=texts[path], status=states.get(path, Status.DONE))
        for path in sorted(texts, key=lambda path: (len(path), path))
    ]
    return Rollout(PROBLEM, tuple(turns))


def scored(terms: Mapping[str, Any], texts: Mapping[Path, str], states: Mapping[Path, Status] | None = None) -> Scores:
    return Reward(terms=terms).score([tree(texts, states)], exact)[0]


@pytest.mark.parametrize(
    ("text", "right", "formed"),
    [
        (RIGHT, 1.0, 1.0),
        (WRONG, 0.0, 1.0),
        (BARE, 1.0, 0.0),
        (SILENT, 0.0, 1.0),
        ("", 0.0, 0.0),
        ("\\boxed{7", 0.0, 0.0),
        (RIGHT + RIGHT, 1.0, 0.0),
    ],
)
def test_terms_of_one_turn(text: str, right: float, formed: float) -> None:
    scores = scored({"outcome": Outcome(), "immediate": Immediate(), "format": Format()}, {(0,): text})
    assert scores.terms == {"outcome": {(0,): right}, "immediate": {(0,): right}, "format": {(0,): formed}}
    assert scores.correct == {(0,): right}
    assert scores.values == {(0,): 2 * right + formed}


@pytest.mark.parametrize("opening", ["", "<reasoning>said before"])
def test_the_scorer_gets_the_problem_and_the_whole_message(opening: str) -> None:
    seen: list[tuple[Problem, str]] = []

    def scorer(problem: Problem, text: str) -> float:
        seen.append((problem, text))
        return 0.25

    turn = replace(tree({(0,): SILENT}).turns[0], opening=opening)
    assert correctness(PROBLEM, turn, scorer) == 0.25
    assert seen == [(PROBLEM, opening + SILENT)]


def test_a_turn_is_verified_once_for_all_terms() -> None:
    seen: list[str] = []

    def scorer(problem: Problem, text: str) -> float:
        seen.append(text)
        return 1.0

    Reward(terms={"outcome": Outcome(), "immediate": Immediate()}).score([tree({(0,): RIGHT, (0, 0): WRONG})], scorer)
    assert sorted(seen) == sorted([RIGHT, WRONG])


@pytest.mark.parametrize(
    ("texts", "states", "expected"),
    [
        # three of four continuations are right; what the parent itself states does not count
        (
            {(0,): WRONG, (0, 0): RIGHT, (0, 1): RIGHT, (0, 2): RIGHT, (0, 3): WRONG},
            {},
            {(0,): 0.75, (0, 0): 1.0, (0, 1): 1.0, (0, 2): 1.0, (0, 3): 0.0},
        ),
        # (0, 0) ends early: it weighs as much as (0, 1) with its three leaves, (1 + 1/3) / 2 and not (1 + 1) / 4
        (
            {(0,): "", (0, 0): RIGHT, (0, 1): "", (0, 1, 0): RIGHT, (0, 1, 1): WRONG, (0, 1, 2): WRONG},
            {},
            {(0,): 2 / 3, (0, 0): 1.0, (0, 1): 1 / 3, (0, 1, 0): 1.0, (0, 1, 1): 0.0, (0, 1, 2): 0.0},
        ),
        # a chain hands its end down to its root
        (
            {(0,): WRONG, (0, 0): WRONG, (0, 0, 0): WRONG, (0, 0, 0, 0): RIGHT},
            {},
            {(0,): 1.0, (0, 0): 1.0, (0, 0, 0): 1.0, (0, 0, 0, 0): 1.0},
        ),
        # trees in which a later path has more digits than an earlier one
        (
            {(2,): "", (10,): "", (2, 0): RIGHT, (10, 0): WRONG},
            {},
            {(2,): 1.0, (10,): 0.0, (2, 0): 1.0, (10, 0): 0.0},
        ),
        # cut off by its budget, a turn counts as any other
        (
            {(0,): "", (0, 0): RIGHT, (0, 1): WRONG},
            {(0,): Status.TRUNCATED, (0, 1): Status.TRUNCATED},
            {(0,): 0.5, (0, 0): 1.0, (0, 1): 0.0},
        ),
        # nothing came of its only continuation, so it is worth what it states
        (
            {(0,): RIGHT, (0, 0): WRONG, (1,): WRONG, (1, 0): RIGHT},
            {(0, 0): Status.FAILED, (1, 0): Status.FAILED},
            {(0,): 1.0, (1,): 0.0},
        ),
    ],
)
def test_outcome_backs_up_the_mean_over_children(
    texts: dict[Path, str], states: dict[Path, Status], expected: dict[Path, float]
) -> None:
    scores = scored({"outcome": Outcome()}, texts, states)
    assert scores.values == pytest.approx(expected)
    assert scores.terms["outcome"] == scores.correct == scores.values


@pytest.mark.parametrize("dead", DEAD)
def test_a_dead_turn_has_no_score_in_any_term(dead: Status) -> None:
    texts = {(0,): "", (1,): BARE, (0, 0): RIGHT, (0, 1): WRONG, (0, 2): WRONG}
    terms = {"outcome": Outcome(), "immediate": Immediate(), "format": Format()}
    scores = scored(terms, texts, {(1,): dead, (0, 2): dead})
    live = {(0,), (0, 0), (0, 1)}
    assert scores.values[0,] == 0.5  # over two continuations, not three
    assert [set(table) for table in (scores.values, scores.correct, *scores.terms.values())] == [live] * 5


@pytest.mark.parametrize("dead", DEAD)
def test_a_tree_without_a_live_turn_has_no_values(dead: Status) -> None:
    scores = scored({"outcome": Outcome(), "format": Format()}, {(0,): RIGHT, (1,): RIGHT}, {(0,): dead, (1,): dead})
    assert (scores.values, scores.correct, scores.terms) == ({}, {}, {"outcome": {}, "format": {}})


def test_only_leaves_are_scored() -> None:
    asked: list[Path] = []

    def leaf(turn: Turn) -> float:
        asked.append(turn.path)
        return float(len(turn.path))

    values = backed_up(tree({(0,): "", (1,): "", (0, 0): "", (0, 1): "", (0, 1, 0): ""}), leaf)
    assert values == {(0,): 2.5, (1,): 1.0, (0, 0): 2.0, (0, 1): 3.0, (0, 1, 0): 3.0}
    assert sorted(asked) == [(0, 0), (0, 1, 0), (1,)]


CHAIN = {(0,): BARE, (0, 0): WRONG, (1,): SILENT, (1, 0): RIGHT}
"""The first states the right answer and loses it; the second finds it later."""


@pytest.mark.parametrize(
    ("terms", "values"),
    [
        ({"outcome": Outcome()}, {(0,): 0.0, (1,): 1.0, (0, 0): 0.0, (1, 0): 1.0}),
        ({"immediate": Immediate()}, {(0,): 1.0, (1,): 0.0, (0, 0): 0.0, (1, 0): 1.0}),
        ({"format": Format()}, {(0,): 0.0, (1,): 1.0, (0, 0): 1.0, (1, 0): 1.0}),
        (
            {"outcome": Outcome(weight=3.0), "format": Format(weight=0.5)},
            {(0,): 0.0, (1,): 3.5, (0, 0): 0.5, (1, 0): 3.5},
        ),
        (
            {"immediate": Immediate(weight=2.0), "format": Format(weight=-1.0)},
            {(0,): 2.0, (1,): -1.0, (0, 0): -1.0, (1, 0): 1.0},
        ),
    ],
)
def test_values_are_the_weighted_sum_of_terms(terms: dict[str, Any], values: dict[Path, float]) -> None:
    scores = scored(terms, CHAIN)
    assert scores.values == values
    assert scores.correct == {(0,): 0.0, (1,): 1.0, (0, 0): 0.0, (1, 0): 1.0}  # whatever is rewarded


def test_the_breakdown_is_unweighted() -> None:
    scores = scored({"a": Outcome(weight=3.0), "b": Format(weight=0.5), "c": Format(weight=-2.0)}, CHAIN)
    formed = {(0,): 0.0, (1,): 1.0, (0, 0): 1.0, (1, 0): 1.0}
    assert scores.terms == {"a": {(0,): 0.0, (1,): 1.0, (0, 0): 0.0, (1, 0): 1.0}, "b": formed, "c": formed}


def test_trees_are_scored_independently_and_in_order() -> None:
    trees = [tree({(0,): RIGHT}), tree({(0,): WRONG}), tree({(0,): WRONG, (0, 0): RIGHT, (0, 1): WRONG})]
    scores = Reward(terms={"outcome": Outcome()}).score(trees, exact)
    assert [score.values[0,] for score in scores] == [1.0, 0.0, 0.5]
    assert Reward(terms={"outcome": Outcome()}).score([], exact) == []


def test_partial_credit_is_kept() -> None:
    def scorer(problem: Problem, text: str) -> float:
        return {"7": 1.0, "8": 0.25, None: 0.0}[stated_answer(text)]

    rollout = tree({(0,): "", (0, 0): RIGHT, (0, 1): WRONG, (0, 2): SILENT})
    scores = Reward(terms={"outcome": Outcome(weight=2.0)}).score([rollout], scorer)[0]
    assert scores.correct[0,] == pytest.approx(1.25 / 3)
    assert scores.values[0,] == pytest.approx(2.5 / 3)


@pytest.mark.parametrize(
    ("terms", "ahead"),
    [
        ({"format": Format()}, False),
        ({"immediate": Immediate(), "format": Format()}, False),
        ({"outcome": Outcome()}, True),
        ({"format": Format(), "outcome": Outcome()}, True),
    ],
)
def test_looking_ahead(terms: dict[str, Any], ahead: bool) -> None:
    assert Reward(terms=terms).looks_ahead is ahead


def test_the_majority_of_a_rollouts_answers_is_right() -> None:
    texts = {(0,): "", (0, 0): WRONG, (0, 1): WRONG, (1,): "", (1, 0): WRONG, (1, 1): RIGHT, (2,): "", (2, 0): BARE}
    scores = scored({"majority": Majority()}, texts)
    leaves = {(0, 0): 1.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 0.0, (2, 0): 0.0}
    assert scores.terms["majority"] == {**leaves, (0,): 1.0, (1,): 0.5, (2,): 0.0}
    assert scores.correct[2,] == 1.0  # correctness stays the verifier's


def test_votes_count_meanings_and_ties_have_several_winners() -> None:
    half = WRONG.replace("8", "\\frac{1}{2}")
    scores = scored({"majority": Majority()}, {(0,): half, (1,): WRONG.replace("8", "0.5"), (2,): RIGHT})
    assert scores.values == {(0,): 1.0, (1,): 1.0, (2,): 0.0}
    tied = scored({"majority": Majority()}, {(0,): RIGHT, (1,): WRONG, (2,): SILENT})
    assert tied.values == {(0,): 1.0, (1,): 1.0, (2,): 0.0}
    assert scored({"majority": Majority()}, {(0,): SILENT, (1,): SILENT}).values == {(0,): 0.0, (1,): 0.0}


def test_probes_and_pruned_turns_agree_with_the_majority_and_have_no_vote() -> None:
    texts = {(0,): "", (0, 0): RIGHT, (1,): "", (1, 0): RIGHT, (1, 1): WRONG, (1, 2): WRONG, (1, 3): WRONG}
    turns = []
    for turn in tree(texts).turns:
        about = {"probe": True} if turn.path in ((0, 0), (1, 1), (1, 2), (1, 3)) and turn.path != (0, 0) else {}
        turns.append(replace(turn, final=len(turn.path) == 2, **about))
    turns[-1] = replace(turns[-1], text=RIGHT)
    scores = Reward(terms={"majority": Majority()}).score([Rollout(PROBLEM, tuple(turns))], exact)[0]
    found = scores.terms["majority"]
    assert [found[1, number] for number in range(4)] == [1.0, 0.0, 0.0, 1.0]
    assert (found[0,], found[1,]) == (1.0, pytest.approx(1 / 3)), "a state with probes has their mean"


@pytest.mark.parametrize("override", ["reward=random", "reward=majority", "reward=format"])
def test_training_without_verdicts_chooses_no_problems_by_verdicts(override: str) -> None:
    assert compose("train", [override]).settings.reward
    with pytest.raises(InputError, match=r"algorithm\.max_resamples=3 trains on the problems whose verdicts differ"):
        compose("train", [override, "algorithm=dapo"])
    assert compose("train", [override, "algorithm=dapo", "algorithm.max_resamples=0"]).settings.reward


def test_a_random_reward_depends_on_the_turn_and_not_on_its_text() -> None:
    turns = [replace(turn, stream=turn.path[0]) for turn in tree({(n,): RIGHT for n in range(400)}).turns]
    other = [replace(turn, text=WRONG) for turn in turns]
    for chance in (0.5, 0.1):
        reward = Reward(terms={"random": Random(chance=chance)})
        first, second = (reward.score([Rollout(PROBLEM, tuple(one))], exact)[0] for one in (turns, other))
        assert first.terms == second.terms
        assert set(first.values.values()) == {0.0, 1.0}
        assert sum(first.values.values()) / 400 == pytest.approx(chance, abs=0.07)
