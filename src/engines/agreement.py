"""A self-check: the engine samples from the weights that are trained, for this model and this engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from src.models.policy import Policy
from src.types import Engine, InputError, Row, Sampling, Turn, Writer

QUESTIONS = ("1", "What is 2 + 3?", "A train leaves at 9 and arrives at 11. How many hours does it travel? " * 2)
"""Prompts of different lengths; each gets two completions, which share their prompt in training."""

NEW_TOKENS = 8

TOLERANCES = {torch.float32: 0.01, torch.float64: 0.01}
"""Largest mean difference of log-probs in nats. Faults are 0.3 and more."""

HALF_PRECISION = 0.1
"""The same for half precision and for 4-bit weights, whose products are rounded in another order."""


def check_agreement(policy: Policy, engine: Engine, name: str, context: int) -> None:
    """Compare log-probs of the engine, of the learner, and of the model's own forward pass, for policy and base.

    A fresh adapter is zero and could hide a fault, so it is replaced by random numbers during the check.

    Raises:
        InputError: they differ by more than the dtype's rounding; names the model's family and the difference.
    """
    family = policy.model.config.get_text_config().model_type
    has_base = policy.adapted or policy.start is not None
    with torch.no_grad(), _nonzero(policy):
        for writer in (Writer.POLICY, Writer.BASE) if has_base else (Writer.POLICY,):
            try:
                rows = _sample(policy, engine, writer, context)
                sampled = torch.cat([torch.tensor(row.logprobs) for row in rows])
                plain = torch.cat([_plain(policy, row, writer) for row in rows])
                trained = _trained(policy, rows, writer)
            except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError) as error:
                raise InputError(
                    f"model.name={name}: the family {family} is not supported ({type(error).__name__}: {error})"
                ) from error
            limit = TOLERANCES.get(policy.model.dtype, HALF_PRECISION)
            for what, logprobs in (("engine samples", sampled), ("learner trains", trained)):
                difference = float((logprobs - plain).abs().mean())
                if not difference <= limit:
                    raise InputError(
                        f"model.name={name}: the {what} with log-probs of the {writer.name.lower()} that differ by "
                        f"{difference:.2g} nats per token from the model's own forward pass (at most {limit:g} is "
                        f"rounding); the family {family} is not supported with these settings"
                    )


def _sample(policy: Policy, engine: Engine, writer: Writer, context: int) -> list[Row]:
    """Rows of sampled completions, two for each prompt, siblings side by side."""
    prompts = [policy.codec.chat([{"role": "user", "content": text}]) for text in QUESTIONS]
    room = context - NEW_TOKENS
    turns = [
        Turn((index, sibling), prompt[-room:], Sampling(NEW_TOKENS), writer, stream=2 * index + sibling)
        for index, prompt in enumerate(prompts)
        for sibling in range(2)
    ]
    done = sorted(engine.generate(turns, lambda turn: []), key=lambda turn: turn.path)
    return [Row.of(turn, advantage=0.0, weight=1.0) for turn in done]


def _trained(policy: Policy, rows: Sequence[Row], writer: Writer) -> Tensor:
    """Log-probs as the learner computes them: all rows in one micro-batch, siblings sharing their prompt."""
    packs = [rows[start : start + 2] for start in range(0, len(rows), 2)]
    logprobs, _, mask = policy.completion_logprobs(packs, base=writer == Writer.BASE)
    return logprobs[mask].float().cpu()


def _plain(policy: Policy, row: Row, writer: Writer) -> Tensor:
    """Log-probs of one completion by the model's own forward pass, without cache, padding and merged adapter."""
    ids = torch.tensor([row.prompt + row.completion], device=policy.device)
    with policy.as_base() if writer == Writer.BASE else nullcontext(), policy.in_its_precision():
        logits: Tensor = policy.model(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, ids[0, len(row.prompt) :, None])[:, 0].cpu()


@contextmanager
def _nonzero(policy: Policy) -> Iterator[None]:
    """Fill the adapter's zero tensors with random numbers until the context closes."""
    zeros = [weight for weight in policy.parameters() if policy.adapted and not weight.data.any()]
    generator = torch.Generator().manual_seed(0)
    try:
        for weight in zeros:
            weight.data.copy_(0.05 * torch.randn(weight.shape, generator=generator))
        yield
    finally:
        for weight in zeros:
            weight.data.zero_()
