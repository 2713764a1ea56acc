"""The formulas that the family shares: baselines, scales, shares of rows, KL estimators, clipping, corrections."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from src.algorithms.base import Aggregation, Baseline, Estimator, Scale


def compared(group: Sequence[float], baseline: Baseline) -> list[float]:
    """R minus the mean of its group, or of the others in it (RLOO, arXiv 2402.14740), or R itself.

    In a group of equal values, or of one, every difference is exactly 0, whatever the mean rounds to.
    """
    if baseline == "none":
        return list(group)
    if min(group) == max(group):
        return [0.0] * len(group)
    mean = statistics.fmean(group)
    others = len(group) / (len(group) - 1) if baseline == "leave_one_out" else 1.0  # R - mean of the others
    return [others * (value - mean) for value in group]


def group_advantages(
    values: Sequence[Sequence[float]], baseline: Baseline, scale: Scale, epsilon: float
) -> list[list[float]]:
    """Differences from the baseline over the standard deviation (Bessel-corrected) + ``epsilon``, of the group (GRPO,
    arXiv 2402.03300) or of all values (REINFORCE++-like, TRL's ``batch``); ``none`` divides by nothing."""
    everything = [value for group in values for value in group]
    overall = statistics.stdev(everything) if scale == "batch" and len(everything) > 1 else 0.0
    result = []
    for group in values:
        spread = statistics.stdev(group) if scale == "group" and len(group) > 1 else overall
        divisor = 1.0 if scale == "none" else spread + epsilon
        result.append([difference / divisor for difference in compared(group, baseline)])
    return result


def whitened(rows: Sequence[Tensor], weights: Sequence[float], epsilon: float) -> list[Tensor]:
    """Numbers of tokens minus their mean, over their standard deviation + ``epsilon``, both over all tokens of all rows
    (population formula, as OpenRLHF's REINFORCE++), each token with its row's weight."""
    flat = torch.cat([*rows, torch.zeros(0, dtype=torch.float64)])
    if not len(flat) or bool(flat.min() == flat.max()):
        return [torch.zeros_like(row) for row in rows]
    weight = torch.cat([torch.full_like(row, factor) for row, factor in zip(rows, weights, strict=True)])
    weight = weight / weight.sum()
    mean = (weight * flat).sum()
    deviation = (weight * (flat - mean) ** 2).sum().sqrt()
    return [(row - mean) / (deviation + epsilon) for row in rows]


def to_go(numbers: Tensor) -> Tensor:
    """Sums from each token to the last one, ``[tokens]``."""
    return numbers.flip(-1).cumsum(-1).flip(-1)


def row_shares(
    aggregation: Aggregation,
    lengths: Tensor,
    weights: Tensor,
    trajectories: Tensor,
    loss_batch: int = 0,
    max_tokens: int = 1,
) -> Tensor:
    """What each row's sum of token losses counts, with row weights w, lengths T and trajectories numbered from 0, all
    ``[rows]``.

    ``grpo``        w_i / (sum w * T_i): mean over rows of the mean over tokens (arXiv 2402.03300)
    ``bnpo``        w_i / sum w T within each logical batch of ``loss_batch`` rows (0: all), mean over batches (TRL)
    ``dapo``        w_i / sum w T: mean over the tokens of the step (arXiv 2503.14476)
    ``dr_grpo``     w_i / (sum w * max_tokens): a constant length (arXiv 2503.20783)
    ``trajectory``  mean over trajectories of the mean over all tokens of all their rows (Delethink, arXiv 2510.06557);
                    a trajectory weighs as much as its rows do on average

    A row of length 0 (without tokens, or masked as truncated) is in no count of tokens, but in every count of rows,
    batches and trajectories: TRL's ``mask_truncated_completions``.
    """
    match aggregation:
        case "grpo":
            return weights / (weights.sum() * _positive(lengths))
        case "dapo":
            return weights / _positive((weights * lengths).sum())
        case "dr_grpo":
            return weights / (weights.sum() * max_tokens)
        case "bnpo":
            size = loss_batch or max(1, len(weights))
            parts = list(zip(torch.split(weights, size), torch.split(lengths, size), strict=True))
            return torch.cat([part / (_positive((part * length).sum()) * len(parts)) for part, length in parts])
        case "trajectory":
            zeros = weights.new_zeros(int(trajectories.max()) + 1 if len(trajectories) else 0)
            tokens = zeros.index_add(0, trajectories, weights * lengths)
            rows = zeros.index_add(0, trajectories, torch.ones_like(weights))
            weight = zeros.index_add(0, trajectories, weights) / _positive(rows)
            return weights * (weight / (weight.sum() * _positive(tokens)))[trajectories]
    raise ValueError(f"algorithm.aggregation={aggregation!r}; valid: grpo, bnpo, dapo, dr_grpo, trajectory")


def _positive(count: Tensor) -> Tensor:
    """A count to divide by: where it is 0 there is nothing to share."""
    return torch.where(count > 0, count, torch.ones_like(count))


def kl_estimate(estimator: Estimator, logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's estimators of KL(pi || pi_ref) at a token that pi sampled, with u = log pi_ref - log pi.

    k1 = -u, k2 = u^2 / 2, k3 = e^u - u - 1. As a loss on-policy, k2 has the gradient of the divergence, k3 that of the
    reversed one and k1 none in expectation (arXiv 2506.09477); as a reward, k1 is the unbiased one.
    """
    difference = reference - logprobs
    match estimator:
        case "k1":
            return -difference
        case "k2":
            return difference.square() / 2
        case "k3":
            return difference.exp() - difference - 1
    raise ValueError(f"algorithm.kl={estimator!r}; valid: k1, k2, k3")


def clipped_loss(
    ratio: Tensor, advantages: Tensor, low: float, high: float, dual: float | None
) -> tuple[Tensor, Tensor]:
    """-min(r A, clip(r, 1 - low, 1 + high) A) (PPO, arXiv 1707.06347), and where clipping takes the gradient away.

    ``dual`` bounds the loss of A < 0 by -dual * A (dual-clip PPO, arXiv 1912.09729; above 1 + high, TRL's ``delta``).
    """
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    if dual is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual * advantages), loss)
    outside = ((ratio < 1 - low) & (advantages < 0)) | ((ratio > 1 + high) & (advantages > 0))
    return loss, outside


def sampler_weights(
    old: Tensor, sampled: Tensor, mask: Tensor, level: str, mode: str, floor: float, cap: float
) -> Tensor:
    """w = pi_old / mu, of the learner's log-probs over the sampler's, per token ``[rows, tokens]`` or, as the product
    over its tokens, per sequence ``[rows, 1]``. ``truncate`` holds it in [floor, cap] (truncated importance sampling);
    ``mask`` drops what lies outside (IcePop). TRL's ``vllm_importance_sampling_mode``."""
    difference = (old - sampled) * mask
    weights = (difference.sum(-1, keepdim=True) if level == "sequence" else difference).exp()
    if mode == "truncate":
        return weights.clamp(floor, cap)
    return torch.where((weights >= floor) & (weights <= cap), weights, torch.zeros_like(weights))
