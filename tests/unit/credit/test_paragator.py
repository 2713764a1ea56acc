"""Drafts by pass@k: the formulas, and equality with an oracle that aggregates every set of k drafts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from src.algorithms.grpo import GRPO
from src.config import compose
from src.credit.paragator import Paragator
from src.credit.siblings import Siblings
from src.rewards.base import Reward
from src.rewards.format import Format
from src.rewards.immediate import Immediate
from src.rewards.outcome import Outcome
from src.types import InputError, Problem, Rollout, Sampling, Status, Turn

CENTRED = GRPO(scale="none").advantages
REWARD = Reward(terms={"outcome": Outcome(), "immediate": Immediate(weight=0.0)})


def turn(path: tuple[int, ...], text: str, **about: Any) -> Turn:
    return Turn(path, (1,), Sampling(9), status=Status.DONE, text=text, completion=(1,), logprobs=(-1.0,), **about)


def scorer(problem: Problem, text: str) -> float:
    return float("right" in text)


def rollout(right: tuple[bool, ...], k: int, aggregated: bool = True) -> Rollout:
    """Drafts, and an aggregation of every set of ``k`` by an oracle: right if a draft of the set is."""
    turns = [turn((place,), "right" if one else "wrong") for place, one in enumerate(right)]
    for number, members in enumerate(itertools.combinations(range(len(right)), k) if aggregated else ()):
        text = "right" if any(right[place] for place in members) else "wrong"
        turns += [turn((number, copy), text, sources=tuple((place,) for place in members)) for copy in range(2)]
    return Rollout(Problem("p", "?", ""), tuple(turns))


def advantages(rule: Siblings, one: Rollout, reward: Reward = REWARD) -> dict[tuple[int, ...], float]:
    rows = rule.rows([one], reward.score([one], scorer), CENTRED).rows
    return {row.path: row.advantage for row in rows}


@pytest.mark.parametrize(("count", "k"), [(2, 1), (3, 2), (4, 2), (5, 3), (5, 5), (6, 4)])
def test_it_is_the_credit_of_siblings_with_an_oracle_that_aggregates_every_set(count: int, k: int) -> None:
    for right in itertools.product((False, True), repeat=count):
        found = advantages(Paragator(), rollout(right, k))
        aggregated = advantages(Siblings(), rollout(right, k))
        assert found == pytest.approx(aggregated, abs=1e-12)
        assert advantages(Paragator(value="aggregated"), rollout(right, k)) == aggregated
        wrong = right.count(False)
        mu = 1 - math.comb(wrong, k) / math.comb(count, k)
        for place, one in enumerate(right):
            formula = 1 - mu - (0 if one else math.comb(wrong - 1, k - 1) / math.comb(count - 1, k - 1))
            assert found[(place,)] == pytest.approx(formula, abs=1e-12)
        alone = advantages(Paragator(k=k), rollout(right, k, aggregated=False))
        assert alone == pytest.approx({path: value for path, value in found.items() if len(path) == 1}, abs=1e-12)


def test_the_drafts_own_terms_still_count() -> None:
    reward = Reward(terms={**REWARD.terms, "format": Format(weight=0.5)})
    drafts = ["right", "<reasoning>x</reasoning><answer>wrong</answer>"]
    one = Rollout(Problem("p", "?", ""), tuple(turn((place,), text) for place, text in enumerate(drafts)))
    assert advantages(Paragator(), one, reward) == pytest.approx({(0,): 0.25, (1,): -0.25})
    assert advantages(Paragator(k=2), one, reward) == pytest.approx({(0,): -0.25, (1,): 0.25})


BAD = {
    "credit.k=9": "cannot be drawn from rounds.responses=8",
    "credit.verdicts=outcome": "scores every draft on its own; valid: immediate, format",
    "reward.normalise=before": "replaces their values",
    "credit.absent=true": "does not read prompts",
}


def test_settings_that_cannot_be_are_refused_together() -> None:
    compose("train", ["experiment=paragator"])
    with pytest.raises(InputError) as caught:
        compose("train", ["experiment=paragator", *BAD])
    for message in BAD.values():
        assert message in str(caught.value)
