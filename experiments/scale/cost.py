"""Estimated seconds of a MOTIF step by phase for docs/scale.md: ``python -m experiments.scale.cost``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from experiments.table1.cost import DEVICES, GIB, MODEL, Lengths, qwen
from src.estimating.memory import activation_bytes, cache_bytes, weight_bytes
from src.estimating.shape import Shape
from src.estimating.time import Device, learning, writing
from src.models.settings import Lora, ModelSettings
from src.utils import tables

TURNS = (8, 32, 32)
"""Turns of each round for one question: m = 8, k = 4, n = 3."""

LENGTHS = Lengths((350.0, 350.0, 350.0), 250.0)
"""Assumed mean number of new tokens of each round, and of prompt tokens without a progress."""

KEPT = 0.9
"""Share of a server's memory that vLLM uses (its default ``--gpu-memory-utilization`` is about this)."""

BIG = ModelSettings(
    name="Qwen/Qwen2.5-32B-Instruct",
    context=2048,
    round_tokens=1024,
    dtype="bfloat16",
    gradient_checkpointing=True,
    lora=Lora(r=64, alpha=64),
)


@dataclass(frozen=True)
class Plan:
    """A placement: ``servers`` that sample on ``sampler``, and ``trainers`` on ``trainer``, for ``problems`` a step.

    They take turns: no sampling while the update is computed. ``together``: one GPU does both."""

    name: str
    model: ModelSettings
    problems: int
    servers: int
    sampler: Device
    trainers: int
    trainer: Device
    together: bool = False


def several(device: Device, count: int) -> Device:
    """``count`` GPUs that share the work of one model (tensor parallel), without the cost of communication."""
    return replace(
        device,
        name=f"{count} x {device.name}",
        memory=count * device.memory,
        peak_flops=count * device.peak_flops,
        bandwidth=count * device.bandwidth,
    )


def big() -> Shape:
    """Shape of Qwen2.5-32B-Instruct, from its published configuration."""
    layers, hidden, inner, heads, groups, size, vocabulary = 64, 5120, 27648, 40, 8, 128, 152064
    sizes = {
        **{"q_proj": (hidden, heads * size), "k_proj": (hidden, groups * size), "v_proj": (hidden, groups * size)},
        **{"o_proj": (heads * size, hidden), "gate_proj": (hidden, inner), "up_proj": (hidden, inner)},
        "down_proj": (inner, hidden),
    }
    matrices = {f"layers.{layer}.{name}": one for layer in range(layers) for name, one in sizes.items()}
    rest = 2 * vocabulary * hidden + layers * (2 * hidden + (heads + 2 * groups) * size) + hidden  # norms, biases
    total = sum(inputs * outputs for inputs, outputs in matrices.values()) + rest
    return Shape(layers, hidden, inner, heads, groups, size, vocabulary, total, matrices)


def cache_tokens(shape: Shape, plan: Plan) -> int:
    """Tokens in the KV cache of one server: what its weights leave."""
    return int((KEPT * plan.sampler.memory - weight_bytes(shape, plan.model)) / cache_bytes(shape, plan.model))


def row(shape: Shape, plan: Plan) -> list[str]:
    """The row of a plan: seconds of sampling and of training, and the memory of a trainer."""
    model, cache = plan.model, 65536 if plan.together else cache_tokens(shape, plan)
    sampling = sum(
        writing(shape, model, plan.sampler, plan.problems * turns / plan.servers, LENGTHS.asked(depth), new, cache)
        for depth, (turns, new) in enumerate(zip(TURNS, LENGTHS.rounds, strict=True), 1)
    )
    rows = plan.problems * TURNS[0] / plan.trainers
    training = learning(shape, model, plan.trainer, rows, LENGTHS.prompt, LENGTHS.rounds[0])
    assert model.lora is not None
    adapter = shape.adapter(model.lora.r, tuple(model.lora.targets))
    resident = weight_bytes(shape, model) + adapter * 4 * 4  # weights, gradients and two moments in float32
    tokens = plan.problems * sum(turns * new for turns, new in zip(TURNS, LENGTHS.rounds, strict=True))
    return [
        plan.name,
        f"{tokens / 1e3:,.0f} k",
        f"{sampling:.0f}",
        f"{training:.1f}",
        f"{sampling / (sampling + training):.0%}",
        f"{resident / GIB:.0f}",
        f"{activation_bytes(shape, model.replace(device='cuda'), 4096, 600) / GIB:.1f}",
    ]


def main() -> None:
    """Print the table."""
    small, large = qwen(), big()
    rtx, h100 = DEVICES[0], DEVICES[1]
    pair = several(h100, 2)
    plans = [
        (small, Plan("3B NF4, the paper's step, one 24 GB GPU", MODEL, 1, 1, rtx, 1, rtx, together=True)),
        (small, Plan("3B NF4, the paper's step, one 80 GB GPU", MODEL, 1, 1, h100, 1, h100, together=True)),
        (large, Plan("32B, 64 problems, 8 GPUs: 3 servers of 2, 2 trainers", BIG, 64, 3, pair, 2, h100)),
        (large, Plan("32B, 64 problems, 64 GPUs: 28 servers of 2, 8 trainers", BIG, 64, 28, pair, 8, h100)),
        (large, Plan("32B, 512 problems, 64 GPUs: 24 servers of 2, 16 trainers", BIG, 512, 24, pair, 16, h100)),
    ]
    heads = ["run", "tokens", "sampling, s", "training, s", "sampling", "trainer, GiB", "activations, GiB"]
    sys.stdout.write(tables.markdown(heads, [row(shape, plan) for shape, plan in plans]) + "\n")


if __name__ == "__main__":
    main()
