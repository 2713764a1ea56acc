"""Supervised learning of a policy: worked solutions as the turns of a rollout, asked for with its very prompts.

The loss covers what a turn writes, never its prompt.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from src.models.packing import micro_batches
from src.models.policy import Policy
from src.rounds.multi_round import MultiRound
from src.sft import solutions
from src.types import Codec, InputError, Problem, Row, Status, Turn


@dataclass(frozen=True)
class ImitationConfig:
    """The supervised loop; each field is explained in conf/warmup.yaml."""

    steps: int
    turns: int
    micro_batch_tokens: int
    max_grad_norm: float
    validate_every: int
    validation_problems: int

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        return [f"imitation.{name}={value} must be above 0" for name, value in vars(self).items() if value <= 0]


def lessons(problem: Problem, strategy: MultiRound, codec: Codec, end: int, rng: random.Random) -> list[Row]:
    """A problem's worked solution as the turns of one rollout: their prompts, and what is to be written.

    A turn that is longer than its token budget is left out: it could not be written either.

    Raises:
        InputError: the problem has no worked solution, or rounds do not carry what is written in them.
    """
    texts = solutions.rounds(solutions.steps(problem), problem.answer, strategy.n, rng)
    chain = strategy.independent(len(texts), 1, 1.0, 1.0)
    lineage: list[Turn] = []
    rows = []
    for text in texts:
        (turn,) = chain.extend(problem, lineage, codec) if lineage else chain.open(problem, codec)
        if turn.opening:
            raise InputError(
                "rounds.carry goes on writing one message, and worked solutions are written as rounds of their own; "
                "use rounds/carry=answer or history"
            )
        completion = (*codec.encode(text), end)
        if len(completion) <= turn.sampling.max_new_tokens:
            rows.append(Row(turn.prompt, completion, (), 1.0, 1.0, 1.0, 0, turn.path))
        lineage.append(replace(turn, completion=completion, text=text, status=Status.DONE))
    return rows


def stream(problems: Sequence[Problem], strategy: MultiRound, codec: Codec, end: int, seed: int) -> Iterator[Row]:
    """Turns to imitate without end: every epoch a new order of the problems and a new split of their solutions.

    Raises:
        InputError: no turn of an epoch fits its token budget.
    """
    epoch = 0
    while True:
        rng = random.Random(f"{seed}/warmup/{epoch}")
        shown = 0
        for problem in rng.sample(problems, len(problems)):
            rows = lessons(problem, strategy, codec, end, rng)
            shown += len(rows)
            yield from rows
        if not shown:
            raise InputError(
                f"no worked solution fits into rounds.first_tokens={strategy.first_tokens} and rounds.later_tokens="
                f"{strategy.later_tokens}; raise model.round_tokens"
            )
        epoch += 1


def surprise(policy: Policy, rows: Sequence[Row], budget: int) -> Iterator[Tensor]:
    """The summed negative log-likelihood of the completions, one micro-batch at a time."""
    for packs in micro_batches(rows, policy.attention, budget):
        logprobs, _, mask = policy.completion_logprobs([[rows[index] for index in pack] for pack in packs])
        yield -(logprobs * mask).sum()


def mean_loss(policy: Policy, rows: Sequence[Row], budget: int) -> float:
    """Mean negative log-likelihood of a completion's token, in nats."""
    with torch.no_grad():
        total = sum(float(part) for part in surprise(policy, rows, budget))
    return total / sum(len(row.completion) for row in rows)


def imitate(
    policy: Policy, rows: Sequence[Row], optimizer: Any, schedule: Any, settings: ImitationConfig
) -> dict[str, float]:
    """One optimizer step towards writing ``rows``: the mean over all their tokens, however they are split."""
    count = sum(len(row.completion) for row in rows)
    optimizer.zero_grad()
    loss = 0.0
    for part in surprise(policy, rows, settings.micro_batch_tokens):
        torch.autograd.backward(part / count)
        loss += float(part.detach()) / count
    norm = float(torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm))
    rate = schedule.get_last_lr()[0]
    optimizer.step()
    schedule.step()
    return {"loss": loss, "grad_norm": norm, "lr": rate, "tokens/trained": count}
