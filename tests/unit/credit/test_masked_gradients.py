"""The exact expected update where an environment writes a token of each turn, in a world of two letters.

A turn is a letter of the policy, the other letter as the environment's answer, and a second letter of the policy. Every
rollout can be listed, so the expected update is known to rounding.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from src.algorithms.grpo import GRPO
from src.credit.first import First
from src.models.packing import placed
from src.rewards.base import Reward
from src.rewards.outcome import Outcome
from src.types import Problem, Rollout, Sampling, Status, Turn

LETTERS = "ab"
WORTH = {"aa": 0.1, "ab": 0.7, "ba": 0.45, "bb": 0.2}
MASK = (True, False, True)


def weights() -> dict[str, Tensor]:
    """Logits of the next letter after every text; those after one letter would predict the environment's."""
    generator = torch.Generator().manual_seed(3)
    return {
        state: torch.randn(2, generator=generator, dtype=torch.float64, requires_grad=True)
        for state in ("", "a", "b", "ab", "ba")
    }


def turn(path: int, first: int, second: int, mask: tuple[bool, ...] = MASK) -> Turn:
    tokens = (first, 1 - first, second)
    text = LETTERS[first] + LETTERS[second]
    return Turn((path,), (9,), Sampling(3), status=Status.DONE, completion=tokens, mask=mask, text=text)


def logprobs(policy: dict[str, Tensor], turn: Turn) -> Tensor:
    """Log-prob of each completion token, that of the environment included."""
    text = "".join(LETTERS[token] for token in turn.completion)
    return torch.stack([policy[text[:place]].log_softmax(-1)[token] for place, token in enumerate(turn.completion)])


def exact(policy: dict[str, Tensor]) -> list[Tensor]:
    """The gradient of the expected reward: the environment's token has probability 1."""
    total = torch.zeros((), dtype=torch.float64)
    for first, second in itertools.product(range(2), repeat=2):
        one = turn(0, first, second)
        total = total + WORTH[one.text] * logprobs(policy, one)[[0, 2]].sum().exp()
    return _gradients(total, policy)


def expected(policy: dict[str, Tensor], baseline: str, mask: tuple[bool, ...]) -> list[Tensor]:
    """The expectation of the update over every pair of turns, with the advantages that the learner gives tokens."""
    algorithm = GRPO(baseline=baseline, scale="none")
    reward = Reward(terms={"outcome": Outcome()})
    total, mass = torch.zeros((), dtype=torch.float64), 0.0
    for letters in itertools.product(range(2), repeat=4):
        turns = (turn(0, *letters[:2], mask), turn(1, *letters[2:], mask))
        probability = float(sum(logprobs(policy, one)[[0, 2]].sum() for one in turns).exp().detach())  # type: ignore[union-attr]
        mass += probability
        rollout = Rollout(Problem("p", "?", ""), turns)
        scores = reward.score([rollout], lambda problem, text: WORTH[text])
        for row, one in zip(First().rows([rollout], scores, algorithm.advantages).rows, turns, strict=True):
            (values,) = algorithm.token_advantages([row.advantage], [row.trained], [row.weight], None)
            total = total + probability * row.weight * (placed(values, row) * logprobs(policy, one)).sum()
    assert mass == pytest.approx(1)
    return _gradients(total, policy)


def _gradients(total: Tensor, policy: dict[str, Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(total, list(policy.values()), allow_unused=True)
    return [torch.zeros(2, dtype=torch.float64) if one is None else one for one in found]


@pytest.mark.parametrize(("baseline", "factor"), [("leave_one_out", 1.0), ("group", 1 / 2)])
def test_the_expected_update_ignores_the_environment(baseline: str, factor: float) -> None:
    policy = weights()
    for found, true in zip(expected(policy, baseline, MASK), exact(policy), strict=True):
        torch.testing.assert_close(found, factor * true, rtol=0, atol=1e-12)


def test_without_the_mask_the_policy_would_learn_to_predict_the_environment() -> None:
    policy = weights()
    found = expected(policy, "leave_one_out", ())
    assert all(float(found[place].abs().max()) > 1e-3 for place in (1, 2))
