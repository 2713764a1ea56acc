from __future__ import annotations

import math
import random

import pytest
import torch
from torch.autograd import gradcheck

from src.algorithms.grpo import GRPO
from src.algorithms.logprobs import token_logprobs

# advantages


@pytest.mark.parametrize(
    ("scale", "epsilon", "values", "expected"),
    [
        # mean 1.5; Bessel-corrected variance (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3
        (
            "group",
            0.0,
            [[0.0, 1.0, 2.0, 3.0]],
            [[-1.5 / math.sqrt(5 / 3), -0.5 / math.sqrt(5 / 3), 0.5 / math.sqrt(5 / 3), 1.5 / math.sqrt(5 / 3)]],
        ),
        # two values 0 and 1: std = sqrt(1/2), so +-0.5 / (0.70710678 + 0.25)
        ("group", 0.25, [[0.0, 1.0]], [[-0.5 / (math.sqrt(0.5) + 0.25), 0.5 / (math.sqrt(0.5) + 0.25)]]),
        # each group has its own mean and its own spread
        (
            "group",
            1e-4,
            [[1.0, 0.0], [4.0, 0.0]],
            [
                [0.5 / (math.sqrt(0.5) + 1e-4), -0.5 / (math.sqrt(0.5) + 1e-4)],
                [2.0 / (math.sqrt(8.0) + 1e-4), -2.0 / (math.sqrt(8.0) + 1e-4)],
            ],
        ),
        # all values 0 0 1 3: mean 1, variance (1 + 1 + 0 + 4) / 3 = 2; the baseline stays that of the group
        (
            "batch",
            0.5,
            [[0.0, 0.0], [1.0, 3.0]],
            [[0.0, 0.0], [-1.0 / (math.sqrt(2.0) + 0.5), 1.0 / (math.sqrt(2.0) + 0.5)]],
        ),
        ("none", 1e-4, [[0.0, 1.0, 2.0], [4.0, 6.0]], [[-1.0, 0.0, 1.0], [-1.0, 1.0]]),
    ],
)
def test_advantages_by_hand(scale, epsilon, values, expected):
    result = GRPO(scale=scale, epsilon=epsilon).advantages(values)
    assert [len(group) for group in result] == [len(group) for group in expected]
    for group, wanted in zip(result, expected, strict=True):
        assert group == pytest.approx(wanted, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("size", [2, 3, 6, 8, 12])
def test_equal_values_have_exactly_no_advantage(scale, size):
    # Exactly 0, whatever the mean rounds to: only then is the row skipped.
    values = [0.0, 1.0, 0.2, 0.8, 1 / 6, 0.1, -0.7, 1e-9]
    groups = [[value] * size for value in values]
    assert GRPO(scale=scale).advantages([*groups, [0.0, 1.0]])[:-1] == [[0.0] * size] * len(values)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_of_a_group_sum_to_zero(scale):
    rng = random.Random(0)
    values = [[rng.random() for _ in range(size)] for size in (2, 5, 8)]
    for group in GRPO(scale=scale).advantages(values):
        assert math.fsum(group) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("scale", ["batch", "none"])
def test_a_single_value_needs_no_spread(scale):
    assert GRPO(scale=scale).advantages([[0.5], [0.0, 1.0]])[0] == [0.0]


def test_no_groups():
    assert GRPO().advantages([]) == []


# shares

LENGTHS = [3, 1, 7, 2, 5]
WEIGHTS = [0.5, 1.0, 0.25, 0.125, 1.0]


def loop_loss(aggregation: str, losses: list[list[float]], weights: list[float], loss_batch: int, longest: int):
    """The aggregated loss, token by token."""
    size = len(losses) if aggregation != "bnpo" or loss_batch == 0 else loss_batch
    total = 0.0
    starts = range(0, len(losses), size)
    for start in starts:
        above = below = 0.0
        for tokens, weight in zip(losses[start : start + size], weights[start : start + size], strict=True):
            for loss in tokens:
                match aggregation:
                    case "grpo":
                        above += weight * loss / len(tokens)
                    case _:
                        above += weight * loss
                        below += weight if aggregation in ("dapo", "bnpo") else 0.0
            match aggregation:
                case "grpo":
                    below += weight
                case "dr_grpo":
                    below += weight * longest
        total += above / below / len(starts)
    return total


@pytest.mark.parametrize(
    ("aggregation", "loss_batch"),
    [("grpo", 0), ("bnpo", 0), ("bnpo", 1), ("bnpo", 2), ("bnpo", 3), ("bnpo", 99), ("dapo", 0), ("dr_grpo", 0)],
)
def test_shares_are_those_of_a_loop_over_tokens(aggregation, loss_batch):
    rng = random.Random(1)
    losses = [[rng.uniform(-1, 1) for _ in range(length)] for length in LENGTHS]
    algorithm = GRPO(aggregation=aggregation, loss_batch=loss_batch, max_tokens=48)
    shares = algorithm.shares(torch.tensor(LENGTHS, dtype=torch.float64), torch.tensor(WEIGHTS, dtype=torch.float64))
    total = sum(float(share) * sum(tokens) for share, tokens in zip(shares, losses, strict=True))
    assert total == pytest.approx(loop_loss(aggregation, losses, WEIGHTS, loss_batch, 48), rel=1e-12)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("grpo", [1 / 8, 1 / 4, 1 / 8]),  # weights 1 1 2, sum 4, lengths 2 1 4
        ("dapo", [1 / 11, 1 / 11, 2 / 11]),  # sum w T = 2 + 1 + 8
        ("dr_grpo", [1 / 40, 1 / 40, 2 / 40]),  # sum w x 10
        ("bnpo", [1 / 6, 1 / 6, 1 / 8]),  # batches {1, 2} and {3}: 1/3 / 2, 1/3 / 2, 2/8 / 2
    ],
)
def test_shares_by_hand(aggregation, expected):
    algorithm = GRPO(aggregation=aggregation, loss_batch=2, max_tokens=10)
    lengths, weights = torch.tensor([2.0, 1.0, 4.0]), torch.tensor([1.0, 1.0, 2.0])
    assert algorithm.shares(lengths, weights).tolist() == pytest.approx(expected, rel=1e-6)


def test_an_unknown_aggregation_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'mean'; valid: grpo, bnpo, dapo, dr_grpo"):
        GRPO(aggregation="mean").shares(torch.ones(2), torch.ones(2))


# token losses


def scalar_loss(algorithm: GRPO, logprob: float, old: float, reference: float | None, advantage: float):
    """Loss, clip flag and k3 of one token in plain Python."""
    ratio = math.exp(logprob - old)
    low, high = 1 - algorithm.clip_low, 1 + algorithm.clip_high
    clipped = low if ratio < low else high if ratio > high else ratio
    loss = -min(ratio * advantage, clipped * advantage)
    if algorithm.dual_clip is not None and advantage < 0:
        loss = min(loss, -algorithm.dual_clip * advantage)
    flag = (ratio < low and advantage < 0) or (ratio > high and advantage > 0)
    k3 = 0.0
    if reference is not None:
        u = reference - logprob
        k3 = math.exp(u) - u - 1
        loss += algorithm.kl_beta * k3
    return loss, flag, k3


ALGORITHMS = [
    GRPO(),
    GRPO(clip_low=0.1, clip_high=0.3),
    GRPO(dual_clip=3.0),
    GRPO(clip_low=0.2, clip_high=0.28, dual_clip=1.5, kl_beta=0.1),
    GRPO(kl_beta=0.5),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_loss_is_the_scalar_formula(algorithm):
    generator = torch.Generator().manual_seed(2)
    shape = (6, 40)
    old, logprobs, reference = (torch.randn(shape, generator=generator, dtype=torch.float64) - 2 for _ in range(3))
    advantages = torch.tensor([1.5, -1.5, 0.0, 0.3, -0.3, -4.0], dtype=torch.float64)
    mask = torch.rand(shape, generator=generator) < 0.8
    given = reference if algorithm.kl_beta else None
    losses, sums = algorithm.token_loss(logprobs, old, given, advantages, mask)
    flags, kl = 0, 0.0
    for row in range(shape[0]):
        for column in range(shape[1]):
            loss, flag, k3 = scalar_loss(
                algorithm,
                float(logprobs[row, column]),
                float(old[row, column]),
                float(reference[row, column]) if algorithm.kl_beta else None,
                float(advantages[row]),
            )
            assert float(losses[row, column]) == pytest.approx(loss, rel=1e-12, abs=1e-12)
            if mask[row, column]:
                flags, kl = flags + flag, kl + k3
    assert 0 < flags < int(mask.sum())
    assert int(sums["clip_ratio"]) == flags
    assert ("kl" in sums) == bool(algorithm.kl_beta)
    assert float(sums.get("kl", 0.0)) == pytest.approx(kl, rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "dual_clip", "loss", "slope"),
    [
        (1.0, 2.0, None, -2.0, -2.0),
        (1.1, 2.0, None, -2.2, -2.2),
        (1.5, 2.0, None, -2.4, 0.0),  # too likely already: clipped
        (0.5, 2.0, None, -1.0, -1.0),  # unlikely but good: not clipped
        (0.5, -2.0, None, 1.6, 0.0),  # unlikely already: clipped
        (1.5, -2.0, None, 3.0, 3.0),  # likely but bad: not clipped
        (5.0, -2.0, None, 10.0, 10.0),
        (5.0, -2.0, 3.0, 6.0, 0.0),  # bounded by -c A
        (2.9, -2.0, 3.0, 5.8, 5.8),
        (5.0, 2.0, 3.0, -2.4, 0.0),  # dual clip leaves A > 0 alone
    ],
)
def test_clipping_by_hand(ratio, advantage, dual_clip, loss, slope):
    logprobs = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    result, _ = GRPO(dual_clip=dual_clip).token_loss(
        logprobs,
        torch.zeros(1, 1, dtype=torch.float64),
        None,
        torch.tensor([advantage], dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.bool),
    )
    result.sum().backward()
    assert result.item() == pytest.approx(loss, rel=1e-12)
    assert float(logprobs.grad) == pytest.approx(slope, rel=1e-12, abs=1e-15)  # d ratio / d logprob = ratio


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_gradient_by_finite_differences(algorithm):
    generator = torch.Generator().manual_seed(3)
    old, reference = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    logprobs = (old + 0.7 * torch.randn(4, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 2.5, -0.5], dtype=torch.float64)
    mask = torch.ones(4, 5, dtype=torch.bool)
    given = reference if algorithm.kl_beta else None
    assert gradcheck(lambda x: algorithm.token_loss(x, old, given, advantages, mask)[0], (logprobs,), eps=1e-7)


@pytest.mark.parametrize("algorithm", [GRPO(), GRPO(clip_low=0.1, clip_high=0.3), GRPO(dual_clip=3.0)])
def test_at_ratio_one_the_gradient_is_that_of_reinforce(algorithm):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, 4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    tokens = torch.randint(7, (3, 4), generator=generator)
    advantages = torch.tensor([1.5, -0.5, 0.0], dtype=torch.float64)
    mask = torch.ones(3, 4, dtype=torch.bool)
    logprobs, _ = token_logprobs(logits, tokens, torch.ones(3, dtype=torch.float64))
    losses, _ = algorithm.token_loss(logprobs, logprobs.detach(), None, advantages, mask)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    # d log softmax(z)[a] / dz = onehot(a) - softmax(z)
    score = torch.nn.functional.one_hot(tokens, 7) - logits.detach().softmax(-1)
    torch.testing.assert_close(gradient, -advantages[:, None, None] * score, rtol=1e-12, atol=1e-14)


def test_k3_is_zero_with_zero_slope_at_the_reference():
    logprobs = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    losses, sums = GRPO(kl_beta=0.3).token_loss(
        logprobs,
        logprobs.detach(),
        logprobs.detach(),
        torch.zeros(1, dtype=torch.float64),
        torch.ones(1, 2, dtype=torch.bool),
    )
    losses.sum().backward()
    assert losses.tolist() == [[0.0, 0.0]]
    assert logprobs.grad.tolist() == [[0.0, 0.0]]
    assert float(sums["kl"]) == 0.0


# log-probs


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_token_logprobs_and_entropy_by_hand(temperature):
    logits = torch.tensor([[[0.0, math.log(2.0), math.log(5.0)]]], dtype=torch.float64)
    powers = [value ** (1 / temperature) for value in (1.0, 2.0, 5.0)]
    probabilities = [power / sum(powers) for power in powers]
    for token in range(3):
        logprobs, entropy = token_logprobs(logits, torch.tensor([[token]]), torch.tensor([temperature]))
        assert float(logprobs) == pytest.approx(math.log(probabilities[token]), rel=1e-12)
        assert float(entropy) == pytest.approx(-sum(p * math.log(p) for p in probabilities), rel=1e-12)


def test_half_precision_logits_are_normalised_in_float32():
    logits = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(5)).bfloat16()
    tokens = torch.zeros(2, 3, dtype=torch.long)
    logprobs, _ = token_logprobs(logits, tokens, torch.ones(2))
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs, logits.float().log_softmax(-1)[..., 0])
