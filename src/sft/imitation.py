"""Supervised warm-up on worked solutions, written as the turns of a rollout with the rollout's own prompts.

The loss covers completions only, never prompts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from src.models.packing import micro_batches
from src.models.policy import Policy
from src.rounds.base import Strategy
from src.sft import solutions
from src.types import Codec, InputError, Problem, Row, Status, Turn

TOO_LONG = (
    "no worked solution fits into the token budgets of its rounds (rounds.first_tokens, rounds.later_tokens); raise "
    "model.round_tokens"
)


def lessons(
    problem: Problem,
    strategy: Strategy,
    codec: Codec,
    end: int,
    rng: random.Random,
    progress: solutions.Progress = "steps",
) -> list[Row]:
    """Training rows of a problem: its worked solution as the turns of one rollout.

    A turn that is longer than its token budget is left out, because the policy could not generate it either.

    Raises:
        InputError: the problem has no worked solution with this ``progress``, or the carry rule continues one message
            over all rounds.
    """
    texts = solutions.rounds(problem, strategy.n, rng, progress)
    chain = strategy.independent(len(texts), 1, 1.0, 1.0)
    lineage: list[Turn] = []
    rows = []
    for text in texts:
        opened = chain.extend(problem, lineage, codec) if lineage else chain.open(problem, codec)
        if not opened or opened[0].opening:
            raise InputError(
                "rounds.carry continues one message over all rounds, but worked solutions are split into separate "
                "rounds; use rounds/carry=answer or history"
            )
        (turn,) = opened
        completion = (*codec.encode(text), end)
        if len(completion) <= turn.sampling.max_new_tokens:
            rows.append(Row(turn.prompt, completion, (), 1.0, 1.0, 1.0, 0, turn.path))
        lineage.append(replace(turn, completion=completion, text=text, status=Status.DONE))
    return rows


def held_out(
    problems: Sequence[Problem],
    strategy: Strategy,
    codec: Codec,
    end: int,
    seed: int,
    progress: solutions.Progress = "steps",
) -> list[Row]:
    """The rows of validation problems, whose solutions are split into rounds once.

    Raises:
        InputError: no turn fits its token budget.
    """
    rng = random.Random(f"{seed}/warmup/validation")
    rows = [row for one in problems for row in lessons(one, strategy, codec, end, rng, progress)]
    if not rows:
        raise InputError(f"of {len(problems)} validation problems, {TOO_LONG}")
    return rows


def stream(
    problems: Sequence[Problem],
    strategy: Strategy,
    codec: Codec,
    end: int,
    seed: int,
    progress: solutions.Progress = "steps",
) -> Iterator[Row]:
    """Endless training rows. Every epoch shuffles the problems and splits their solutions into rounds anew.

    Raises:
        InputError: no turn of an epoch fits its token budget.
    """
    epoch = 0
    while True:
        rng = random.Random(f"{seed}/warmup/{epoch}")
        shown = 0
        for problem in rng.sample(problems, len(problems)):
            rows = lessons(problem, strategy, codec, end, rng, progress)
            shown += len(rows)
            yield from rows
        if not shown:
            raise InputError(TOO_LONG)
        epoch += 1


def losses(policy: Policy, rows: Sequence[Row], budget: int) -> Iterator[Tensor]:
    """Mean negative log-likelihood of the completion tokens of ``rows``, as a sum of parts: one per micro-batch of
    ``budget`` tokens."""
    count = sum(len(row.completion) for row in rows)
    for packs in micro_batches(rows, policy.attention, budget):
        logprobs, _, mask = policy.completion_logprobs([[rows[index] for index in pack] for pack in packs])
        yield -(logprobs * mask).sum() / count


def mean_loss(policy: Policy, rows: Sequence[Row], budget: int) -> float:
    """Mean negative log-likelihood per completion token, in nats."""
    with torch.no_grad():
        return sum(float(part) for part in losses(policy, rows, budget))
