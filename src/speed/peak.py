"""The subprocess that measures one point of ``memory``: reads a task as JSON and writes its peak memory."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from src.models.policy import token_logprobs
from src.types import Row, Sampling, Turn

if TYPE_CHECKING:
    from src.models.policy import Policy
from src.models.settings import ModelSettings

STATUS = Path("/proc/self/status")
WIDTH = 64
"""Hidden size of the head."""

PROMPT = 8
"""Prompt tokens of each row."""


def resident(name: str) -> float:
    """Resident memory of this process in MiB: current (``VmRSS``) or peak (``VmHWM``).

    Not from ``getrusage``: on Linux, its ``ru_maxrss`` includes the peak of the parent process.
    """
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def taken(work: Callable[[], object]) -> float:
    """Peak memory of ``work`` in MiB, minus the memory before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak, which includes loading
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def head(task: Mapping[str, Any]) -> Callable[[], object]:
    """Log-probs of ``tokens`` tokens over a ``vocabulary`` and their gradient, with all logits at once or in pieces."""
    vocabulary, tokens = task["vocabulary"], task["tokens"]
    weight = torch.randn(vocabulary, WIDTH)
    hidden = torch.randn(tokens, WIDTH, requires_grad=True)
    targets, temperature = torch.zeros(tokens, dtype=torch.long), torch.ones(tokens)
    options = {} if task["pieces"] else {"at_once": vocabulary * tokens}

    def work() -> None:
        logprobs, _ = token_logprobs(hidden, lambda x: x @ weight.T, targets, temperature, **options)
        torch.autograd.backward(logprobs.sum())

    return work


def training(task: Mapping[str, Any]) -> Callable[[], object]:
    """An optimizer step on ``tokens`` tokens in rows of ``longest``, in micro-batches of ``budget`` tokens."""
    from src.speed.training import own_learner

    policy, rng = _policy(task), random.Random(0)
    longest = task["longest"]
    rows = [
        Row(
            prompt=_tokens(rng, policy, PROMPT),
            completion=_tokens(rng, policy, longest - PROMPT),
            logprobs=(-3.0,) * (longest - PROMPT),
            temperature=1.0,
            advantage=1.0,
            weight=1.0,
            tree=0,
            path=(index,),
        )
        for index in range(task["tokens"] // longest)
    ]
    learner = own_learner(policy, task["budget"])
    return lambda: learner.update(rows)


def rollouts(task: Mapping[str, Any]) -> Callable[[], object]:
    """Rollouts of ``tokens`` tokens in rows of ``longest`` (prompt and completion), with a KV cache of ``budget``."""
    from src.config import build
    from src.speed.base import Unending

    policy, rng = _policy(task), random.Random(0)
    settings = build({**task["settings"]["engine"], "max_batch_tokens": task["budget"]})
    engine = settings.build(Unending(policy), _model(task))
    turns = [
        Turn((index,), _tokens(rng, policy, PROMPT), Sampling(task["longest"] - PROMPT), stream=index)
        for index in range(task["tokens"] // task["longest"])
    ]
    return lambda: engine.generate(turns, lambda turn: ())


def _policy(task: Mapping[str, Any]) -> Policy:
    """The model with a new adapter. Imported here, because ``head`` does not need it."""
    from src.models.loading import load_policy

    return load_policy(_model(task), 0)


def _model(task: Mapping[str, Any]) -> ModelSettings:
    """Model settings with the adapter of the training benchmark."""
    from src.config import build
    from src.speed.training import LORA

    settings: ModelSettings = build({**task["settings"]["model"], "lora": dict(LORA)}, ModelSettings, "model")
    return settings


def _tokens(rng: random.Random, policy: Policy, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(policy.codec.size) for _ in range(count))


WORK = {"head": head, "training": training, "rollouts": rollouts}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    sys.stdout.write(json.dumps({"mib": taken(WORK[asked["work"]](asked))}) + "\n")
