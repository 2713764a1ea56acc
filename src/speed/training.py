"""A training step against TRL's GRPOTrainer: on the same tokens with the same adapter, and including generation."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from src.algorithms.grpo import GRPO
from src.models.policy import Policy
from src.models.settings import Lora
from src.optimizers.adamw import AdamW
from src.speed.base import Measured, Unending, Workbench, comparison
from src.speed.generating import own_engines, random_prompt
from src.speed.stepping import MOST_STEPS
from src.speed.timing import alternate
from src.speed.trl_trainer import TrlTrainer, alternating, missing
from src.training.learner import Learner
from src.types import Engine, Row, Sampling, Turn

ROWS = 8
"""Completions per prompt: the group size."""

LORA = Lora(r=16, alpha=16)
RATE, MAX_GRAD_NORM = 1e-6, 1.0
OURS, TRL = "ours", "TRL's GRPOTrainer"


def measure(bench: Workbench) -> Measured:
    """Seconds of a step of this project and of TRL."""
    settings = bench.settings
    count, new = settings.at_most(ROWS), settings.at_most(settings.new_tokens)
    about = (
        f"GRPO, LoRA r={LORA.r}: a group of {count} completions of {new} tokens. `training`: loss, gradient, clipping "
        "and AdamW on the same tokens. `whole step`: generation, reward and training, with alternating rewards 0 and "
        "1. Neither side uses gradient checkpointing (TRL's default does, and is slower)."
    )
    if reason := missing():
        return Measured(about, notes=[f"left out: {reason}"], numbers={"left_out": reason})
    policy, theirs = bench.policy(LORA), bench.policy(LORA)
    rng = random.Random(bench.seed)
    prompt = random_prompt(rng, policy, settings.at_most(settings.prompt_tokens))
    rows = group(prompt, [random_prompt(rng, policy, new) for _ in range(count)])
    learner = own_learner(policy, settings.micro_batch_tokens)
    engines, notes = own_engines(bench, Unending(policy))
    with tempfile.TemporaryDirectory() as folder:
        trl = TrlTrainer(theirs, count, new, MAX_GRAD_NORM, RATE, str(Path(folder)))
        timed = {
            "training": alternate(
                {TRL: lambda: trl.train(rows), OURS: lambda: train(learner, rows)}, settings.repeats, settings.warmup
            ),
            "whole step": alternate(
                {
                    TRL: lambda: trl.whole_step(prompt),
                    **{
                        name: partial(whole_step, engine, learner, prompt, count, new)
                        for name, engine in engines.items()
                    },
                },
                settings.repeats,
                settings.warmup,
            ),
        }
    table, numbers = comparison("A GRPO step against TRL's", timed, TRL)
    notes = [f"prompt of {len(prompt)} tokens, shared by the group", *notes]
    return Measured(about, [table], notes, {"ways": numbers})


def group(
    prompt: tuple[int, ...],
    completions: Sequence[tuple[int, ...]],
    logprobs: Sequence[tuple[float, ...]] | None = None,
) -> list[Row]:
    """Rows of one prompt, with the advantages of alternating rewards 0 and 1."""
    rewards = alternating([""] * len(completions))
    advantages = GRPO().advantages([rewards])[0]
    return [
        Row(
            prompt=prompt,
            completion=completion,
            logprobs=logprobs[index] if logprobs else (0.0,) * len(completion),
            temperature=1.0,
            advantage=advantages[index],
            weight=1 / len(completions),
            tree=0,
            path=(index,),
        )
        for index, completion in enumerate(completions)
    ]


def own_learner(policy: Policy, micro_batch_tokens: int) -> Learner:
    """This project's learner with plain GRPO and the same optimizer as TRL's."""
    algorithm: Any = GRPO()
    settings = AdamW(lr=RATE, betas=(0.9, 0.999), warmup=0.0, schedule="constant")
    optimizer, schedule = settings.build(policy.parameters(), MOST_STEPS)
    return Learner(policy, algorithm, optimizer, schedule, micro_batch_tokens, MAX_GRAD_NORM)


def train(learner: Learner, rows: Sequence[Row]) -> int:
    """Take one optimizer step on ``rows``. Returns the number of completion tokens."""
    learner.update(rows)
    return sum(len(row.completion) for row in rows)


def whole_step(engine: Engine, learner: Learner, prompt: tuple[int, ...], rows: int, new: int) -> int:
    """Generation, reward and optimizer step for one group. Returns the number of completion tokens."""
    turns = [Turn((index,), prompt, Sampling(new), stream=index) for index in range(rows)]
    written = engine.generate(turns, lambda turn: ())
    for turn in written:
        learner.policy.codec.decode(turn.completion)  # the cost of decoding the text for a reward
    return train(learner, group(prompt, [turn.completion for turn in written], [turn.logprobs for turn in written]))
