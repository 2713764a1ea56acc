"""Metrics of the rollouts of a training step, as a flat mapping of names to numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import repeat
from typing import Any

from src.credit.base import Credited
from src.rounds.mixture import Assigned
from src.types import Rollout, Scores, Status, Turn
from src.verifiers.tags import well_formed


def describe(rollouts: Sequence[Rollout], scores: Sequence[Scores], credited: Credited) -> dict[str, float]:
    """Compute reward, accuracy, group, length and token metrics of a step.

    Rewards and accuracy are means over live first-round responses. Completion metrics are per round, without probes.
    """
    first = [(score, turn) for rollout, score in zip(rollouts, scores, strict=True) for turn in rollout.level(1)]
    live = [(score, turn.path) for score, turn in first if turn.live]
    groups: dict[Any, list[float]] = {}
    for row in credited.rows:
        groups.setdefault(row.group, []).append(row.advantage)
    compared = [advantages for advantages in groups.values() if len(advantages) > 1]
    metrics = {
        "reward": statistics.fmean(score.rewards[path] for score, path in live),
        **{
            f"reward/{name}": statistics.fmean(score.terms[name][path] for score, path in live)
            for name in scores[0].terms
        },
        "accuracy": statistics.fmean(score.correct[path] for score, path in live),
        "advantage/zero_std_groups": statistics.fmean(len(set(advantages)) == 1 for advantages in compared)
        if compared
        else 1.0,
        "advantage/lonely_groups": credited.lonely_groups,
    }
    for number in sorted({turn.round for rollout in rollouts for turn in rollout.turns if not turn.probe}):
        turns = [turn for rollout in rollouts for turn in rollout.level(number)]
        name = f"completion/round_{number}"
        metrics[f"{name}/mean_tokens"] = statistics.fmean(turn.generated for turn in turns)
        metrics[f"{name}/truncated"] = statistics.fmean(turn.status == Status.TRUNCATED for turn in turns)
        if (logprob := mean_logprob(turns)) is not None:
            metrics[f"{name}/logprob"] = logprob
        metrics[f"{name}/well_formed"] = statistics.fmean(well_formed(turn.text) for turn in turns)
        metrics[f"{name}/carried_cut"] = statistics.fmean(turn.carried_cut for turn in turns)
    parts: dict[str, list[float]] = {}
    for rollout, score in zip(rollouts, scores, strict=True):
        if isinstance(rollout.problem, Assigned):
            correct = [score.correct[turn.path] for turn in rollout.level(1) if turn.live]
            parts.setdefault(rollout.problem.part, []).append(statistics.fmean(correct or [0.0]))
    for part, accuracies in parts.items():
        metrics[f"part/{part}/problems"] = len(accuracies)
        metrics[f"part/{part}/accuracy"] = statistics.fmean(accuracies)
    metrics["tokens/generated"] = sum(rollout.tokens for rollout in rollouts)
    metrics["tokens/trained"] = sum(row.trained for row in credited.rows)
    return metrics


def mean_logprob(turns: Sequence[Turn]) -> float | None:
    """Mean log-prob of the sampled tokens at temperature 1, whatever the sampling temperature.

    ``None`` if the engine does not report log-probs at temperature 1.
    """
    logprobs = [
        logprob
        for turn in turns
        for logprob, own in zip(turn.model_logprobs, turn.mask or repeat(True), strict=False)
        if own
    ]
    return statistics.fmean(logprobs) if logprobs else None
