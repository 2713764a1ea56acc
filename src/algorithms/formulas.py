"""Formulas shared by the algorithms: baselines, scaling, loss aggregation, KL estimators, clipping, corrections."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from src.algorithms.base import Aggregation, Baseline, Estimator, Scale

ROUNDING = 1e-12
"""Relative difference of values that counts as rounding."""


def compared(group: Sequence[float], baseline: Baseline) -> list[float]:
    """R minus its baseline: the group mean, the mean of the others in the group (RLOO, arXiv 2402.14740), or none.

    In a group of one value, or of values that are equal but for rounding, every difference is exactly 0. Otherwise a
    division by their standard deviation would turn rounding errors into advantages.
    """
    if baseline == "none":
        return list(group)
    if max(group) - min(group) <= ROUNDING * max(map(abs, group)):
        return [0.0] * len(group)
    mean = statistics.fmean(group)
    others = len(group) / (len(group) - 1) if baseline == "leave_one_out" else 1.0  # R - mean of the others
    return [others * (value - mean) for value in group]


def group_advantages(
    values: Sequence[Sequence[float]], baseline: Baseline, scale: Scale, epsilon: float
) -> list[list[float]]:
    """Advantages: differences from the baseline, divided by a standard deviation (Bessel-corrected) + ``epsilon``.

    ``scale`` chooses the standard deviation: of the group (GRPO, arXiv 2402.03300), of all values (TRL's ``batch``, as
    in REINFORCE++), or ``none`` for no division. ``mean`` divides by the group mean instead, without ``epsilon``
    (MaxRL); a group whose mean is 0 or below has no advantage.
    """
    of_batch = [value for group in values for value in group]
    batch_deviation = statistics.stdev(of_batch) if scale == "batch" and len(of_batch) > 1 else 0.0
    result = []
    for group in values:
        if scale == "mean":
            mean = statistics.fmean(group)
            result.append([difference / mean if mean > 0 else 0.0 for difference in compared(group, baseline)])
            continue
        deviation = statistics.stdev(group) if scale == "group" and len(group) > 1 else batch_deviation
        divisor = 1.0 if scale == "none" else (deviation + epsilon) or 1.0  # 0 only if all differences are 0
        result.append([difference / divisor for difference in compared(group, baseline)])
    return result


def whitened(rows: Sequence[Tensor], weights: Sequence[float], epsilon: float) -> list[Tensor]:
    """Whiten token advantages: subtract their mean and divide by their standard deviation + ``epsilon``.

    Both are over all tokens of all rows, each token with its row's weight; the standard deviation is the population
    formula, as in OpenRLHF's REINFORCE++.
    """
    flat = torch.cat([*rows, torch.zeros(0, dtype=torch.float64)])
    if not len(flat) or bool(flat.min() == flat.max()):
        return [torch.zeros_like(row) for row in rows]
    weight = torch.cat([torch.full_like(row, factor) for row, factor in zip(rows, weights, strict=True)])
    weight = weight / weight.sum()
    mean = (weight * flat).sum()
    deviation = (weight * (flat - mean) ** 2).sum().sqrt()
    return [(row - mean) / (deviation + epsilon) for row in rows]


def to_go(numbers: Tensor) -> Tensor:
    """Return-to-go: the sum from each token to the last one, ``[tokens]``."""
    return numbers.flip(-1).cumsum(-1).flip(-1)


def row_shares(
    aggregation: Aggregation,
    lengths: Tensor,
    weights: Tensor,
    trajectories: Tensor,
    loss_batch: int = 0,
    max_tokens: int = 1,
) -> Tensor:
    """Aggregation weight of each row's summed token losses, from row weights w, lengths T and trajectory numbers (from
    0), all ``[rows]``.

    ``grpo``        w_i / (sum w * T_i): mean over rows of the mean over tokens (arXiv 2402.03300)
    ``bnpo``        w_i / sum w T within each logical batch of ``loss_batch`` rows (0: all), mean over batches (TRL)
    ``dapo``        w_i / sum w T: mean over the tokens of the step (arXiv 2503.14476)
    ``dr_grpo``     w_i / (sum w * max_tokens): a constant length (arXiv 2503.20783)
    ``trajectory``  mean over trajectories of the mean over all tokens of all their rows (Delethink, arXiv 2510.06557);
                    a trajectory weighs as much as its rows do on average

    A row of length 0 (without tokens, or masked as truncated) still counts as a row, in its batch and in its
    trajectory, as with TRL's ``mask_truncated_completions``.

    Raises:
        ValueError: an unknown aggregation.
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
    """A count as a divisor: 0 becomes 1, because its numerator is 0 too."""
    return torch.where(count > 0, count, torch.ones_like(count))


def kl_estimate(estimator: Estimator, logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's estimators of KL(pi || pi_ref) at tokens sampled from pi, with u = log pi_ref - log pi.

    k1 = -u, k2 = u^2 / 2, k3 = e^u - u - 1. In an on-policy loss, the expected gradient of k2 is that of KL(pi ||
    pi_ref), that of k3 is the gradient of KL(pi_ref || pi), and that of k1 is 0 (arXiv 2506.09477). In a reward, k1 is
    unbiased.

    Raises:
        ValueError: an unknown estimator.
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
    """PPO's loss -min(r A, clip(r, 1 - low, 1 + high) A) (arXiv 1707.06347), and the tokens without gradient.

    ``dual`` bounds the loss of tokens with A < 0 by -dual * A (dual-clip PPO, arXiv 1912.09729; TRL's ``delta``). It
    should be above 1 + high.
    """
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    if dual is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual * advantages), loss)
    outside = ((ratio < 1 - low) & (advantages < 0)) | ((ratio > 1 + high) & (advantages > 0))
    return loss, outside


def sampler_weights(
    old: Tensor, sampled: Tensor, mask: Tensor, level: str, mode: str, floor: float, cap: float
) -> Tensor:
    """Importance weights w = pi_old / mu that correct the mismatch between trainer and sampler log-probs.

    They are per token, ``[rows, tokens]``, or per sequence, ``[rows, 1]``: the product over its tokens. ``truncate``
    clamps them to [floor, cap] (truncated importance sampling); ``mask`` sets those outside to 0 (IcePop). TRL's
    ``vllm_importance_sampling_mode``.
    """
    difference = (old - sampled) * mask
    weights = (difference.sum(-1, keepdim=True) if level == "sequence" else difference).exp()
    if mode == "truncate":
        return weights.clamp(floor, cap)
    return torch.where((weights >= floor) & (weights <= cap), weights, torch.zeros_like(weights))
