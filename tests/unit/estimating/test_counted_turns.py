"""Estimated times of whole runs: what each turn of a strategy adds to them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from src.config import compose
from src.estimating.devices import device_named
from src.estimating.published import published_shape
from src.estimating.running import Assumed, evaluation_seconds, training_seconds
from src.estimating.shape import Shape
from src.estimating.time import learning, writing

DEVICE, ASSUMED = device_named("H200"), Assumed()


@cache
def qwen() -> Shape:
    return published_shape("Qwen/Qwen2.5-3B-Instruct")


def settings(*overrides: str) -> Any:
    size = ["model=tiny", "model.context=8192", "model.round_tokens=1024", "train.problems=6", "train.steps=1"]
    return compose("train", [*size, *overrides]).settings


def seconds(*overrides: str) -> float:
    return training_seconds(settings(*overrides), qwen(), DEVICE)


def by_hand(sampled: list[int], trained: list[int], *overrides: str) -> float:
    """Seconds of a step with so many turns in each round: 350 new tokens, prompts of 250, later ones of 550."""
    of = settings(*overrides)
    lengths = [(250.0, 350.0), (550.0, 350.0), (550.0, 350.0)]
    write = [
        writing(qwen(), of.model, DEVICE, turns, *length, of.engine.cache_tokens)
        for turns, length in zip(sampled, lengths, strict=False)
    ]
    learn = [
        learning(qwen(), of.model, DEVICE, turns, *length) for turns, length in zip(trained, lengths, strict=False)
    ]
    return sum(write) + of.algorithm.iterations * sum(learn)


@pytest.mark.parametrize(
    ("overrides", "sampled", "trained"),
    [
        (["rounds=3"], [48, 192, 192], [48]),
        (["rounds=3", "reward=immediate"], [48], [48]),
        (["rounds=3", "reward=tree"], [48, 192, 192], [48, 192, 192]),
        (["rounds=3", "reward=process"], [72, 264, 456], [48, 48, 48]),
        (["rounds=aggregation", "credit=siblings"], [48, 96], [48, 96]),
        (["rounds=mixture"], [48, 96, 96], [48]),
        (["rounds=pdr", "credit=siblings"], [48, 24], [48, 24]),
    ],
)
def test_a_step_takes_the_seconds_of_its_turns(overrides: list[str], sampled: list[int], trained: list[int]) -> None:
    assert seconds(*overrides) == pytest.approx(by_hand(sampled, trained, *overrides))


def test_answers_that_read_several_drafts_take_the_seconds_of_their_drafts() -> None:
    of = settings("rounds=aggregation", "credit=siblings")
    chains = of.rounds.independent(2, 5, 1.0, 1.0)
    cache_tokens = of.engine.cache_tokens
    drafts = writing(qwen(), of.model, DEVICE, 10 * 5 * 4, 250.0, 350.0, cache_tokens)
    answers = writing(qwen(), of.model, DEVICE, 10 * 5, 550.0, 350.0, cache_tokens)
    assert evaluation_seconds(of, qwen(), DEVICE, chains, 10) == pytest.approx(drafts + answers)


def test_new_tokens_of_a_mixture_are_the_mean_over_its_turns() -> None:
    rounds = settings("rounds=mixture", "rounds.parts.single.strategy.first_tokens=150").rounds
    assert ASSUMED.new(rounds, 1) == 250
    assert ASSUMED.new(rounds, 2) == 350
