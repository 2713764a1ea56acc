"""Estimated GPU hours and memory of table 1's jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.table1.runs import EQUAL, PROBLEMS, STEPS
from src.estimating.devices import DEVICES, GIB
from src.estimating.memory import Job, demand
from src.estimating.published import published_shape
from src.estimating.shape import Shape
from src.estimating.time import Device, learning, writing
from src.models.settings import Lora, ModelSettings
from src.utils import tables

POLICIES = ("base", "GRPO", "MOTIF", EQUAL)

TURNS = {"GRPO": (8,), "MOTIF": (8, 32, 32)}
"""Turns of each round in a step of one question: m in round 1, m x k in later rounds."""

LIMITS = (1024, 2048, 2048)
"""Maximum number of new tokens of each round; the context may leave less."""

CONTEXT, PROGRESS, CACHE, MICRO_BATCH = 2048, 300, 65536, 4096
"""Tokens of a round's context; assumed tokens of a carried progress; ``engine.max_batch_tokens`` and
``train.micro_batch_tokens`` of the recipes."""

MODEL = ModelSettings(
    name="Qwen/Qwen2.5-3B-Instruct",
    context=CONTEXT,
    round_tokens=1024,
    dtype="bfloat16",
    quantization="nf4",
    lora=Lora(r=64, alpha=64),
)


@dataclass(frozen=True)
class Lengths:
    """Mean number of new tokens of each round, and number of tokens of a prompt without a progress."""

    rounds: tuple[float, ...]
    prompt: float

    def asked(self, round: int) -> float:
        """Tokens of a round's prompt (1-based)."""
        return self.prompt + (PROGRESS if round > 1 else 0)


def qwen() -> Shape:
    """Shape of the paper's model, from the published configuration of Qwen2.5-3B-Instruct; needs no network."""
    return published_shape("Qwen/Qwen2.5-3B-Instruct")


def budgets(prompt: float) -> Lengths:
    """Lengths if every round uses its whole budget."""
    asked = Lengths((), prompt).asked
    return Lengths(tuple(min(limit, CONTEXT - asked(i)) for i, limit in enumerate(LIMITS, 1)), prompt)


def generated(policy: str, lengths: Lengths) -> float:
    """Number of tokens that one step samples."""
    return sum(turns * tokens for turns, tokens in zip(TURNS[policy], lengths.rounds, strict=False))


def equal_steps(lengths: Lengths) -> int:
    """Number of steps of GRPO that sample as many tokens as MOTIF's training."""
    return math.ceil(STEPS["MOTIF"] * generated("MOTIF", lengths) / generated("GRPO", lengths))


def training_hours(shape: Shape, device: Device, policy: str, lengths: Lengths) -> float:
    """GPU hours of training a policy: generating its rounds one after the other, and the update on the first."""
    kind = "GRPO" if policy == EQUAL else policy
    steps = equal_steps(lengths) if policy == EQUAL else STEPS[kind]
    rounds = enumerate(zip(TURNS[kind], lengths.rounds, strict=False), 1)
    seconds = sum(writing(shape, MODEL, device, turns, lengths.asked(i), new, CACHE) for i, (turns, new) in rounds)
    seconds += learning(shape, MODEL, device, TURNS[kind][0], lengths.prompt, lengths.rounds[0])
    return steps * seconds / 3600


def evaluation_hours(shape: Shape, device: Device, rounds: int, problems: int, lengths: Lengths) -> float:
    """GPU hours of one greedy answer to each problem."""
    each = enumerate(lengths.rounds[:rounds], 1)
    return sum(writing(shape, MODEL, device, problems, lengths.asked(i), new, CACHE) for i, new in each) / 3600


def cost_table(shape: Shape, cases: Mapping[str, Lengths]) -> str:
    """Markdown table of the GPU hours of each job, for several cases of lengths."""
    heads = ["job", "lengths", "tokens sampled", *(f"GPU-h {device.name}" for device in DEVICES)]
    lines = []
    for case, lengths in cases.items():
        for policy in POLICIES[1:]:
            kind = "GRPO" if policy == EQUAL else policy
            steps = equal_steps(lengths) if policy == EQUAL else STEPS[kind]
            hours = [f"{training_hours(shape, device, policy, lengths):.1f}" for device in DEVICES]
            tokens = f"{steps * generated(kind, lengths) / 1e6:.1f} M"
            lines.append([f"train {policy}, {steps:,} steps", case, tokens, *hours])
        problems = sum(PROBLEMS.values())
        for rounds in (1, 3):
            hours = [f"{evaluation_hours(shape, device, rounds, problems, lengths):.2f}" for device in DEVICES]
            tokens = f"{problems * sum(lengths.rounds[:rounds]) / 1e6:.1f} M"
            lines.append([f"evaluate a policy, {rounds} round{'s' if rounds > 1 else ''}", case, tokens, *hours])
    return tables.markdown(heads, lines)


def memory_table(shape: Shape) -> str:
    """Markdown table of the memory of training and evaluation, which is the same for every policy."""
    heads = ["job", "weights", "adapter and its training", "cache", "activations and logits", "peak", "fits"]
    lines = []
    jobs = [(f"train, train.micro_batch_tokens={tokens}", tokens) for tokens in (MICRO_BATCH, CONTEXT)]
    for job, micro_batch in (*jobs, ("evaluate", 0)):
        need = demand(shape, Job(MODEL, CACHE, micro_batch, moment_bytes=1))
        adapter = need.adapter + need.gradients + need.optimizer
        sizes = (need.weights, adapter, need.cache, need.activations + need.logits, need.peak)
        fits = [device.name for device in DEVICES if device.memory > need.peak]
        lines.append([job, *(f"{size / GIB:.1f} GiB" for size in sizes), ", ".join(fits) or "none"])
    return tables.markdown(heads, lines)
