"""The turns that a strategy says it samples are those of a rollout in which no branch ends early."""

from __future__ import annotations

import pytest

from src.config import compose
from src.rounds.base import Strategy
from src.rounds.counting import Count
from src.rounds.growing import grow
from src.types import Problem, Rollout
from tests.helpers.scripted import Letters, Scripted

PROBLEMS = [Problem(f"p{number}", "Q", "") for number in range(6)]


def strategy(command: str, *overrides: str) -> Strategy:
    long = ["model.context=8192", "model.round_tokens=64"] if command == "train" else ["model.context=8192"]
    rounds: Strategy = compose(command, ["model=tiny", *long, *overrides]).settings.rounds
    return rounds


def found(rollouts: list[Rollout], n: int) -> list[Count]:
    """The turns of each round of the rollouts, means over problems."""
    turns = [turn for rollout in rollouts for turn in rollout.turns]
    kinds = [
        [[turn.probe for turn in turns if turn.round == number].count(probe) for probe in (False, True)]
        for number in range(1, n + 1)
    ]
    return [Count(plain / len(rollouts), probes / len(rollouts)) for plain, probes in kinds]


@pytest.mark.parametrize(
    ("overrides", "counts"),
    [
        (["rounds=3"], [(8, 0), (32, 0), (32, 0)]),
        (["rounds=1", "rounds.responses=5"], [(5, 0)]),
        (["rounds=3", "rounds.branching=[2,3,2]"], [(2, 0), (6, 0), (12, 0)]),
        (["rounds=3", "reward=process"], [(8, 4), (8, 36), (8, 68)]),
        (["rounds=2", "rounds/search=vote", "rounds.probes=2"], [(4, 0), (4, 8)]),
        (["rounds=3", "rounds/search=value", "rounds.search.keep=2", "rounds.probes=1"], [(4, 0), (8, 4), (8, 12)]),
        (["rounds=aggregation"], [(8, 0), (16, 0)]),
        (["rounds=aggregation", "rounds.n=1"], [(8, 0)]),
        (["rounds=mixture", "train.problems=6"], [(8, 0), (16, 0), (16, 0)]),
        (["rounds=mixture", "train.problems=6", "rounds.parts.single.share=0"], [(8, 0), (32, 0), (32, 0)]),
        (["rounds=pdr", "train.problems=6"], [(8, 0), (4, 0)]),
    ],
)
def test_turns_are_those_of_rollouts_in_training(overrides: list[str], counts: list[tuple[int, int]]) -> None:
    one = strategy("train", *overrides)
    problems = one.assigned(PROBLEMS) if hasattr(one, "assigned") else PROBLEMS
    rollouts = grow(Scripted(lambda turn: f"w{turn.path}"), one, problems, Letters(), ("key",))
    assert list(one.turns) == found(rollouts, one.n) == [Count(*count) for count in counts]


@pytest.mark.parametrize(
    ("overrides", "counts"),
    [
        (["rounds=3"], [(5, 0)] * 3),
        (["rounds=aggregation"], [(4, 0), (1, 0)]),  # of each of the five samples
        (["rounds=mixture"], [(5, 0)] * 3),
        (["rounds=3", "rounds/search=aggregate"], [(16, 0)] * 3),
        (["rounds=2", "rounds/search=value", "rounds.probes=3"], [(4, 0), (4, 12)]),
    ],
)
def test_turns_are_those_of_rollouts_in_evaluation(overrides: list[str], counts: list[tuple[int, int]]) -> None:
    rounds = strategy("evaluate", *overrides)
    chains = rounds.independent(rounds.n, 5, 1.0, 1.0)
    rollouts = grow(Scripted(lambda turn: f"w{turn.path}"), chains, PROBLEMS, Letters(), ("key",))
    assert list(chains.turns) == found(rollouts, chains.n) == [Count(*count) for count in counts]
