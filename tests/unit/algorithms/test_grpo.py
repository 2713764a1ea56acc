from __future__ import annotations

import math
import random
import statistics

import pytest
import torch
from pydantic import ValidationError
from torch.autograd import gradcheck

from src.algorithms.base import Algorithm, Tokens
from src.algorithms.cispo import CISPO
from src.algorithms.formulas import group_advantages, kl_estimate, row_shares
from src.algorithms.grpo import GRPO
from src.algorithms.gspo import GSPO
from src.models.policy import token_logprobs
from tests.helpers.sections import mistakes, run_mistakes
from tests.helpers.tiny_models import kept_for_backward


def tokens(logprobs, old, advantages, mask=None, reference=None, sampled=None, entropy=None):
    """A micro-batch whose sampler agrees with the learner and whose rows have one advantage each, unless told
    otherwise."""
    return Tokens(
        logprobs=logprobs,
        old=old,
        sampled=old if sampled is None else sampled,
        advantages=advantages[:, None].expand_as(logprobs) if advantages.dim() == 1 else advantages,
        mask=torch.ones_like(logprobs, dtype=torch.bool) if mask is None else mask,
        entropy=torch.zeros_like(logprobs) if entropy is None else entropy,
        reference=reference,
    )


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


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_single_value_has_advantage_zero(scale):
    assert GRPO(scale=scale).advantages([[0.5], [0.0, 1.0]])[0] == [0.0]


def test_no_groups():
    assert GRPO().advantages([]) == []


def test_leave_one_out_compares_with_the_mean_of_the_others():
    values = [[1.0, 0.0, 0.5, 0.25], [3.0, -1.0]]
    result = GRPO(baseline="leave_one_out", scale="none").advantages(values)
    for group, found in zip(values, result, strict=True):
        others = [[other for place, other in enumerate(group) if place != index] for index in range(len(group))]
        expected = [value - sum(rest) / len(rest) for value, rest in zip(group, others, strict=True)]
        assert found == pytest.approx(expected, rel=1e-12)
    scaled = GRPO(baseline="leave_one_out", scale="batch", epsilon=0.5).advantages(values)
    spread = statistics.stdev([1.0, 0.0, 0.5, 0.25, 3.0, -1.0]) + 0.5
    assert scaled[1] == pytest.approx([4.0 / spread, -4.0 / spread], rel=1e-12)


def test_without_a_baseline_values_stay_as_they_are():
    values = [[0.7, 0.7], [1.0, -0.5], [0.25]]
    assert GRPO(baseline="none", scale="none").advantages(values) == values


# advantages of tokens


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
def test_rounding_is_no_advantage(scale, baseline):
    """0.1 + 0.2 is not 0.3 in floating point; without epsilon, a division would make 2 standard deviations of it."""
    assert group_advantages([[0.1 + 0.2, 0.3, 0.3, 0.3], [1.0, 1.0]], baseline, scale, 0.0) == [[0.0] * 4, [0.0] * 2]
    (found,) = group_advantages([[1e-9, 0.0]], baseline, "group", 0.0)
    assert found == pytest.approx([0.5**0.5, -(0.5**0.5)] if baseline == "group" else [2**0.5, -(2**0.5)])


def test_token_advantages_equal_the_rows_advantage():
    rows = GRPO().token_advantages([0.5, -2.0, 1.0], [2, 3, 0], [1.0, 1.0, 1.0], None)
    assert [row.tolist() for row in rows] == [[0.5, 0.5], [-2.0, -2.0, -2.0], []]


def test_a_kl_in_the_reward_lowers_the_advantages_of_earlier_tokens():
    kl = [torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)]
    rows = GRPO(kl_beta=0.5, kl_in="reward").token_advantages([1.0, 0.0], [3, 1], [1.0, 1.0], kl)
    assert rows[0].tolist() == pytest.approx([1 - 0.35, 1 - 0.3, 1 - 0.2], rel=1e-12)
    assert rows[1].tolist() == pytest.approx([0.5], rel=1e-12)


def test_whitening_is_over_all_tokens_with_the_weights_of_their_rows():
    algorithm = GRPO(baseline="none", scale="none", whiten=True, epsilon=0.25, kl_beta=0.1, kl_in="reward")
    kl = [torch.tensor([0.5, -0.3], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)]
    rows = algorithm.token_advantages([1.0, 0.25], [2, 1], [0.5, 2.0], kl)
    plain, weights = [1.0 - 0.1 * 0.2, 1.0 + 0.1 * 0.3, 0.25 - 0.1 * 0.2], [0.5, 0.5, 2.0]
    mean = sum(w * a for w, a in zip(weights, plain, strict=True)) / 3
    deviation = math.sqrt(sum(w * (a - mean) ** 2 for w, a in zip(weights, plain, strict=True)) / 3)
    assert torch.cat(rows).tolist() == pytest.approx([(a - mean) / (deviation + 0.25) for a in plain], rel=1e-12)


@pytest.mark.parametrize("lengths", [[], [0, 0], [3, 5]])
def test_equal_tokens_have_exactly_no_advantage_when_whitened(lengths):
    rows = GRPO(whiten=True, epsilon=0.0).token_advantages([0.1] * len(lengths), lengths, [0.3] * len(lengths), None)
    assert [row.tolist() for row in rows] == [[0.0] * length for length in lengths]


# shares

LENGTHS = [3, 1, 7, 2, 5]
WEIGHTS = [0.5, 1.0, 0.25, 0.125, 1.0]
TRAJECTORIES = [0, 1, 0, 2, 1]


def shares(algorithm, lengths, weights, trajectories):
    double = [torch.tensor(values, dtype=torch.float64) for values in (lengths, weights)]
    return algorithm.shares(*double, torch.tensor(trajectories, dtype=torch.int64))


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
        total += above / below / len(starts) if below else 0.0
    return total


@pytest.mark.parametrize("lengths", [LENGTHS, [3, 0, 7, 0, 5]])  # rows without tokens count as rows
@pytest.mark.parametrize(
    ("aggregation", "loss_batch"),
    [("grpo", 0), ("bnpo", 0), ("bnpo", 1), ("bnpo", 2), ("bnpo", 3), ("bnpo", 99), ("dapo", 0), ("dr_grpo", 0)],
)
def test_shares_equal_those_of_a_loop_over_tokens(aggregation, loss_batch, lengths):
    rng = random.Random(1)
    losses = [[rng.uniform(-1, 1) for _ in range(length)] for length in lengths]
    algorithm = GRPO(aggregation=aggregation, loss_batch=loss_batch, max_tokens=48)
    found = shares(algorithm, lengths, WEIGHTS, TRAJECTORIES)
    total = sum(float(share) * sum(tokens) for share, tokens in zip(found, losses, strict=True))
    assert total == pytest.approx(loop_loss(aggregation, losses, WEIGHTS, loss_batch, 48), rel=1e-12)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("grpo", [1 / 8, 1 / 4, 1 / 8]),  # weights 1 1 2, sum 4, lengths 2 1 4
        ("dapo", [1 / 11, 1 / 11, 2 / 11]),  # sum w T = 2 + 1 + 8
        ("dr_grpo", [1 / 40, 1 / 40, 2 / 40]),  # sum w x 10
        ("bnpo", [1 / 6, 1 / 6, 1 / 8]),  # batches {1, 2} and {3}: 1/3 / 2, 1/3 / 2, 2/8 / 2
        ("trajectory", [0.06, 0.4, 0.12]),  # {1, 3}: weight 1.5 of 2.5, 10 tokens; {2}: weight 1 of 2.5, 1 token
    ],
)
def test_shares_by_hand(aggregation, expected):
    algorithm = GRPO(aggregation=aggregation, loss_batch=2, max_tokens=10)
    assert shares(algorithm, [2, 1, 4], [1.0, 1.0, 2.0], [0, 1, 0]).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_trajectory_counts_once_however_many_rounds_it_has():
    found = shares(GRPO(aggregation="trajectory"), [5, 1, 2, 9, 3], [0.5] * 5, [0, 1, 1, 2, 1])
    assert found.tolist() == pytest.approx([1 / 15, 1 / 18, 1 / 18, 1 / 27, 1 / 18], rel=1e-12)


@pytest.mark.parametrize("lengths", [LENGTHS, [3, 0, 7, 0, 5]])
def test_with_one_round_a_trajectory_is_a_row(lengths):
    found, expected = (shares(GRPO(aggregation=name), lengths, WEIGHTS, range(5)) for name in ("trajectory", "grpo"))
    tokens = torch.tensor(lengths)
    torch.testing.assert_close(found * tokens, expected * tokens, rtol=1e-12, atol=0)


@pytest.mark.parametrize("aggregation", ["grpo", "bnpo", "dapo", "dr_grpo", "trajectory"])
def test_rows_without_tokens_give_finite_shares(aggregation):
    algorithm = GRPO(aggregation=aggregation, max_tokens=8)
    assert bool(shares(algorithm, [0, 0], [1.0, 1.0], [0, 0]).isfinite().all())
    assert shares(algorithm, [], [], []).tolist() == []


def test_an_unknown_aggregation_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'mean'; valid: grpo, bnpo, dapo, dr_grpo, trajectory"):
        row_shares("mean", *(torch.ones(2, dtype=torch.float64) for _ in range(2)), torch.tensor([0, 1]))
    assert mistakes(GRPO, "algorithm", aggregation="mean") == [
        "algorithm.aggregation='mean': must be one of grpo, bnpo, dapo, dr_grpo, trajectory"
    ]


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
    losses, sums = algorithm.token_loss(tokens(logprobs, old, advantages, mask, given))
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
    old, advantages = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    result, _ = GRPO(dual_clip=dual_clip).token_loss(tokens(logprobs, old, advantages))
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
    assert gradcheck(lambda x: algorithm.token_loss(tokens(x, old, advantages, mask, given))[0], (logprobs,), eps=1e-7)


@pytest.mark.parametrize("algorithm", [GRPO(), GRPO(clip_low=0.1, clip_high=0.3), GRPO(dual_clip=3.0), GSPO(), CISPO()])
def test_at_ratio_one_the_gradient_is_that_of_reinforce(algorithm):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, 4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(7, (3, 4), generator=generator)
    advantages = torch.tensor([1.5, -0.5, 0.0], dtype=torch.float64)
    logprobs = logprobs_of(logits, ids, torch.ones(3, 4, dtype=torch.float64))[0]
    losses, _ = algorithm.token_loss(tokens(logprobs, logprobs.detach(), advantages))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    # d log softmax(z)[a] / dz = onehot(a) - softmax(z)
    score = torch.nn.functional.one_hot(ids, 7) - logits.detach().softmax(-1)
    torch.testing.assert_close(gradient, -advantages[:, None, None] * score, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_no_divergence_and_no_slope_at_the_reference(estimator):
    logprobs = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    same = logprobs.detach()
    zero = torch.zeros(1, dtype=torch.float64)
    losses, sums = GRPO(kl_beta=0.3, kl=estimator).token_loss(tokens(logprobs, same, zero, reference=same))
    losses.sum().backward()
    assert losses.tolist() == [[0.0, 0.0]]
    assert logprobs.grad.tolist() == [[0.0, 0.0]]
    assert float(sums["kl"]) == 0.0


@pytest.mark.parametrize(("estimator", "expected"), [("k1", -0.5), ("k2", 0.125), ("k3", math.exp(0.5) - 0.5 - 1)])
def test_estimators_by_hand(estimator, expected):
    found = kl_estimate(estimator, torch.tensor(-2.0, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def divergences():
    """A policy and a reference over five tokens; log pi, log pi_ref, and the gradient of KL(pi || pi_ref) in the
    logits, which autograd takes from its definition."""
    generator = torch.Generator().manual_seed(6)
    logits, other = (torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    logprobs, reference = logits.log_softmax(-1), other.log_softmax(-1)
    forward = (logprobs.exp() * (logprobs - reference)).sum()
    reverse = (reference.exp() * (reference - logprobs)).sum()
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (forward, reverse)]
    return logits, logprobs, reference, forward, *gradients


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_estimators_are_unbiased(estimator):
    _, logprobs, reference, forward, _, _ = divergences()
    expectation = (logprobs.exp() * kl_estimate(estimator, logprobs, reference)).sum()
    assert expectation.item() == pytest.approx(forward.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("estimator", "unbiased", "expected"),
    [
        ("k1", False, "none"),
        ("k2", False, "forward"),
        ("k3", False, "reverse"),
        ("k1", True, "forward"),
        ("k3", True, "forward"),
    ],
)
def test_expected_gradient_of_an_estimator_in_the_loss(estimator, unbiased, expected):
    logits, logprobs, reference, _, forward, reverse = divergences()
    algorithm = GRPO(kl_beta=1.0, kl=estimator, kl_unbiased=unbiased)
    batch = tokens(
        logprobs[:, None], logprobs.detach()[:, None], torch.zeros(5, dtype=torch.float64), reference=reference[:, None]
    )
    losses, _ = algorithm.token_loss(batch)
    (found,) = torch.autograd.grad((logprobs.detach().exp() * losses[:, 0]).sum(), logits)  # expectation under pi
    wanted = {"none": torch.zeros(5, dtype=torch.float64), "forward": forward, "reverse": reverse}[expected]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)


def test_a_kl_in_the_reward_has_the_gradient_of_the_divergence():
    # Two tokens, the second given the first; every sequence with its probability.
    generator = torch.Generator().manual_seed(7)
    first, second = (
        torch.randn(3, generator=generator, dtype=torch.float64),
        torch.randn(3, 3, generator=generator).double(),
    )
    parameters = [first.requires_grad_(), second.requires_grad_()]
    reference = [torch.randn(shape, generator=generator).double().log_softmax(-1) for shape in ((3,), (3, 3))]
    one, two = (values.log_softmax(-1) for values in parameters)
    both = (one[:, None] + two).exp()
    anchor = reference[0][:, None] + reference[1]
    rewards = torch.randn(3, 3, generator=generator).double()
    beta = 0.7
    objective = (both * (rewards - beta * (one[:, None] + two - anchor))).sum()
    wanted = torch.autograd.grad(-objective, parameters, retain_graph=True)
    algorithm = GRPO(kl_beta=beta, kl="k1", kl_in="reward")
    places = [(a, b) for a in range(3) for b in range(3)]
    logprobs = torch.stack([torch.stack([one[a], two[a, b]]) for a, b in places])
    anchors = torch.stack([torch.stack([reference[0][a], reference[1][a, b]]) for a, b in places])
    kl = list(algorithm.divergence(logprobs.detach(), anchors))
    values = [float(rewards[place]) for place in places]
    advantages = torch.stack(algorithm.token_advantages(values, [2] * 9, [1.0] * 9, kl))
    losses, sums = algorithm.token_loss(tokens(logprobs, logprobs.detach(), advantages, reference=anchors))
    found = torch.autograd.grad((both.detach().flatten()[:, None] * losses).sum(), parameters)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)
    assert float(sums["kl"]) == pytest.approx(float(torch.stack(kl).sum()), rel=1e-12)


# sequences (GSPO), weights (CISPO), corrections, entropy


def scattered(seed, rows=5, columns=6):
    """Random log-probs, advantages, and a mask of at least one token a row."""
    generator = torch.Generator().manual_seed(seed)
    old, reference = (torch.randn(rows, columns, generator=generator).double() - 2 for _ in range(2))
    sampled = old + 0.3 * torch.randn(rows, columns, generator=generator).double()
    logprobs = (old + 0.4 * torch.randn(rows, columns, generator=generator)).requires_grad_()
    advantages = torch.randn(rows, columns, generator=generator).double()
    mask = torch.rand(rows, columns, generator=generator) < 0.7
    mask[:, 0] = True
    return logprobs, old, reference, sampled, advantages, mask


def test_a_sequence_has_one_ratio():
    logprobs, old, _, _, advantages, mask = scattered(8)
    logprobs = logprobs.detach()
    algorithm = GSPO(clip_low=0.1, clip_high=0.15)
    losses, sums = algorithm.token_loss(tokens(logprobs, old, advantages, mask))
    clipped = 0
    for row in range(len(losses)):
        real = mask[row].nonzero()[:, 0].tolist()
        ratio = math.exp(sum(float(logprobs[row, t] - old[row, t]) for t in real) / len(real))
        for t in real:
            advantage = float(advantages[row, t])
            bounded = min(max(ratio, 0.9), 1.15)
            assert float(losses[row, t]) == pytest.approx(-min(ratio * advantage, bounded * advantage), rel=1e-12)
            clipped += (ratio < 0.9 and advantage < 0) or (ratio > 1.15 and advantage > 0)
    assert 0 < clipped == int(sums["clip_ratio"]) < int(mask.sum())


def test_a_clipped_weight_leaves_the_gradient_in_place():
    logprobs, old, _, _, advantages, mask = scattered(9)
    losses, sums = CISPO(clip_low=1.0, clip_high=0.2).token_loss(tokens(logprobs, old, advantages, mask))
    ratio = (logprobs - old).detach().exp()
    (gradient,) = torch.autograd.grad(losses.sum(), logprobs)
    torch.testing.assert_close(gradient, -ratio.clamp(max=1.2) * advantages, rtol=1e-12, atol=0)
    assert int(sums["clip_ratio"]) == int(((ratio > 1.2) & mask).sum()) > 0
    bounded, _ = CISPO(clip_low=0.2, clip_high=0.2).token_loss(tokens(logprobs, old, advantages, mask))
    torch.testing.assert_close(bounded, -ratio.clamp(0.8, 1.2) * advantages * logprobs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
@pytest.mark.parametrize("kind", [GRPO, GSPO, CISPO])
def test_the_correction_multiplies_the_policy_loss_and_not_the_divergence(kind, mode, level):
    logprobs, old, reference, sampled, advantages, mask = scattered(10, rows=20)
    logprobs = logprobs.detach()
    settings = {"correction": level, "correction_mode": mode, "correction_floor": 0.8, "correction_cap": 1.2}
    batch = tokens(logprobs, old, advantages, mask, reference, sampled, entropy=advantages.abs())
    losses, sums = kind(**settings, kl_beta=0.4, entropy_bonus=0.2).token_loss(batch)
    plain, _ = kind().token_loss(batch)
    total, kept = 0.0, 0
    for row in range(len(losses)):
        real = mask[row].nonzero()[:, 0].tolist()
        for t in real:
            chosen = [t] if level == "token" else real
            weight = math.exp(sum(float(old[row, i] - sampled[row, i]) for i in chosen))
            kept += 0.8 <= weight <= 1.2
            weight = min(max(weight, 0.8), 1.2) if mode == "truncate" else weight * (0.8 <= weight <= 1.2)
            u = float(reference[row, t] - logprobs[row, t])
            others = 0.4 * (math.exp(u) - u - 1) - 0.2 * float(batch.entropy[row, t])
            assert float(losses[row, t]) == pytest.approx(weight * float(plain[row, t]) + others, rel=1e-9, abs=1e-12)
            total += weight
    assert 0 < kept < int(mask.sum())
    assert float(sums["sampler_weight"]) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(
    "algorithm", [GSPO(clip_low=0.3, clip_high=0.3), GSPO(kl_beta=0.1, kl="k2", correction="sequence")], ids=str
)
def test_gradient_of_a_sequence_by_finite_differences(algorithm):
    logprobs, old, reference, sampled, advantages, mask = scattered(11)

    def loss(x):
        batch = tokens(x, old, advantages, mask, reference if algorithm.kl_beta else None, sampled)
        return algorithm.token_loss(batch)[0] * mask

    assert gradcheck(loss, (logprobs,), eps=1e-7)


# log-probs


def logprobs_of(logits, ids, temperature, entropy_gradient=False, at_once=2**24):
    """``token_logprobs`` with the logits as hidden states, and a head that leaves them as they are."""
    found = token_logprobs(
        logits.flatten(0, -2), lambda hidden: hidden, ids.flatten(), temperature.flatten(), entropy_gradient, at_once
    )
    return [part.reshape(ids.shape) for part in found]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_token_logprobs_and_entropy_by_hand(temperature):
    logits = torch.tensor([[0.0, math.log(2.0), math.log(5.0)]], dtype=torch.float64)
    powers = [value ** (1 / temperature) for value in (1.0, 2.0, 5.0)]
    probabilities = [power / sum(powers) for power in powers]
    for token in range(3):
        logprobs, entropy = logprobs_of(logits, torch.tensor([token]), torch.tensor([temperature]))
        assert float(logprobs) == pytest.approx(math.log(probabilities[token]), rel=1e-12)
        assert float(entropy) == pytest.approx(-sum(p * math.log(p) for p in probabilities), rel=1e-12)


def test_half_precision_logits_are_normalised_in_float32():
    logits = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(5)).bfloat16()
    tokens = torch.zeros(2, 3, dtype=torch.long)
    logprobs, _ = logprobs_of(logits, tokens, torch.ones(2, 3))
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs, logits.float().log_softmax(-1)[..., 0])


def test_the_entropy_has_its_gradient_where_asked_for():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(12), dtype=torch.float64, requires_grad=True)
    tokens = torch.zeros(2, 3, dtype=torch.long)
    temperature = torch.tensor([[0.5] * 3, [1.5] * 3], dtype=torch.float64)
    assert not logprobs_of(logits, tokens, temperature)[1].requires_grad
    assert gradcheck(lambda x: logprobs_of(x, tokens, temperature, True)[1], (logits,))


@pytest.mark.parametrize("at_once", [1, 14, 27, 10_000])
def test_pieces_change_neither_log_probs_nor_gradients(at_once):
    generator = torch.Generator().manual_seed(6)
    hidden = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(5, 7, dtype=torch.float64)
    tokens, temperature = torch.randint(7, (11,), generator=generator), torch.full((11,), 1.5, dtype=torch.float64)
    inputs = [hidden, *head.parameters()]
    results = []
    for size in (10**9, at_once):
        logprobs, entropy = token_logprobs(hidden, head, tokens, temperature, True, size)
        results.append([logprobs, entropy, *torch.autograd.grad((logprobs * 3 + entropy).sum(), inputs)])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("at_once", [1, 14, 27, 10_000])
def test_a_frozen_heads_gradient_is_that_of_a_trained_one(at_once):
    generator = torch.Generator().manual_seed(7)
    hidden = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(5, 7, dtype=torch.float64)
    tokens, weights = torch.randint(7, (11,), generator=generator), torch.randn(11, generator=generator).double()
    temperature = torch.rand(11, generator=generator, dtype=torch.float64) + 0.5
    results = []
    for trained in (True, False):
        head.requires_grad_(trained)
        logprobs, entropy = token_logprobs(hidden, head, tokens, temperature, at_once=at_once)
        assert not entropy.requires_grad
        results.append([logprobs, entropy, *torch.autograd.grad((logprobs * weights).sum(), hidden)])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-13)
    assert gradcheck(lambda x: token_logprobs(x, head, tokens, temperature, at_once=at_once)[0], (hidden,))


def test_a_frozen_head_keeps_no_logits():
    head = torch.nn.Linear(5, 1000).requires_grad_(False)
    with kept_for_backward() as kept:
        token_logprobs(torch.randn(8, 5, requires_grad=True), head, torch.zeros(8, dtype=torch.long), torch.ones(8))
    assert kept
    assert 8 * 1000 not in [tensor.numel() for tensor in kept]


# settings


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        (GRPO, {"clip_high": -0.1}, "algorithm.clip_high=-0.1 must be 0 or more"),
        (GRPO, {"max_resamples": -1}, "algorithm.max_resamples=-1 must be 0 or more"),
        (GRPO, {"iterations": 0}, "algorithm.iterations=0 must be 1 or more"),
        (GRPO, {"dual_clip": 1.0}, "algorithm.dual_clip=1.0 must be above 1, or null"),
        (GRPO, {"aggregation": "dr_grpo"}, "algorithm.max_tokens=0 is the divisor"),
        (GRPO, {"correction_cap": 0.5}, "algorithm.correction_cap=0.5 must be at least 1"),
        (GRPO, {"correction_cap": 2.0, "correction_floor": 3.0}, "at least algorithm.correction_floor=3.0"),
        (GRPO, {"baseline": "none"}, "needs differences from a baseline, but algorithm.baseline=none"),
        (GRPO, {"baseline": "none", "scale": "none", "max_resamples": 2}, "algorithm.max_resamples=2 replaces groups"),
        (GRPO, {"kl_in": "reward", "kl_unbiased": True}, "algorithm.kl_unbiased=true corrects a KL loss"),
        (CISPO, {"dual_clip": 3.0}, "algorithm.dual_clip=3.0 bounds PPO's clipped loss"),
    ],
)
def test_invalid_settings_are_refused(kind, settings, text):
    assert [text in error for error in mistakes(kind, "algorithm", **settings)] == [True]
    with pytest.raises(ValidationError):
        kind(**settings)


@pytest.mark.parametrize("kind", [GRPO, GSPO, CISPO])
def test_the_defaults_are_valid(kind):
    assert isinstance(kind(), Algorithm)
    assert mistakes(kind, "algorithm") == []


def test_the_gradient_of_chosen_logprobs_is_that_of_a_log_softmax():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 11, generator=generator, dtype=torch.float64).mul_(4).requires_grad_()
    tokens, temperature = torch.tensor([3, 3, 0, 10, 7, 1]), torch.tensor([0.5, 1.0, 1.25, 2.0, 1.0, 0.1]).double()
    for temperatures in (temperature, torch.ones(6)):
        assert torch.autograd.gradcheck(lambda x, t=temperatures: token_logprobs(x, lambda h: h, tokens, t)[0], logits)


def test_extreme_logits_have_finite_logprobs_and_gradients():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], requires_grad=True)
    logprobs, entropy = token_logprobs(logits, lambda h: h, torch.tensor([1, 2]), torch.ones(2))
    logprobs.sum().backward()
    assert logprobs.tolist() == pytest.approx([-2e4, -math.log(3)])
    assert entropy.tolist() == pytest.approx([0, math.log(3)], abs=1e-3)
    assert logits.grad.flatten().tolist() == pytest.approx([-1, 1, 0, -1 / 3, -1 / 3, 2 / 3], abs=1e-6)


def test_maxrl_divides_by_the_mean_and_skips_groups_without_success() -> None:
    found = group_advantages([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [-1.0, 0.5]], "group", "mean", 1e-4)
    assert found == [[3.0, -1.0, -1.0, -1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_imitation_needs_verdicts():
    (error,) = run_mistakes(GRPO(imitation=0.1), measuring=object())
    assert "algorithm.imitation=0.1 imitates right answers, but what is measured here has no verdicts" in error
    assert run_mistakes(GRPO(), measuring=object()) == []
    assert run_mistakes(GRPO(imitation=0.1)) == []
    assert mistakes(GRPO, imitation=-0.1)
