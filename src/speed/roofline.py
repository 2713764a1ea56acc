"""Roofline of decoding: this machine's memory bandwidth and FLOPs, and decoding speed against their bounds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.models.policy import Policy
from src.speed.base import Measured, Table, Unending, Workbench
from src.speed.generating import Request, ours, random_prompt
from src.speed.timing import alternate

BATCHES = (1, 8, 32, 64, 128)
TRAFFIC = 512
"""MiB read or copied to measure the bandwidth; more than the CPU caches hold."""

WIDTH = 2048
"""Rows and columns of the matrices in the timed product."""


@dataclass(frozen=True)
class Machine:
    """Measured peaks of the machine: bytes and floating-point operations per second."""

    bandwidth: float
    flops: float


@dataclass(frozen=True)
class Decoding:
    """Memory traffic and operations of a decoding step.

    ``weight_bytes`` is read once per step, ``cache_bytes`` (keys and values) once per row. ``operations`` is per row: 2
    per weight, plus 4 x layers x attention width per cached token.
    """

    weight_bytes: float
    cache_bytes: float
    operations: float


def bounds(machine: Machine, decoding: Decoding, batch: int) -> tuple[float, float]:
    """Upper bounds on tokens per second by memory and by arithmetic (roofline; Williams et al., CACM 52(4), 2009).

    They are rows x bandwidth / bytes and peak FLOPs / operations per row. The lower one applies.
    """
    moved = decoding.weight_bytes + batch * decoding.cache_bytes
    return batch * machine.bandwidth / moved, machine.flops / decoding.operations


def peak_of(dtype: str, products: Mapping[str, float]) -> float:
    """The FLOPs per second that bound a model of this precision, from the measured ``products`` of each precision.

    float32 bounds half precision, too: where a processor has no bfloat16 products, an engine multiplies in float32.
    """
    return products["float32"] if dtype == "float32" else max(products.values())


def decoding_of(policy: Policy, tokens: float) -> Decoding:
    """The decoding step of a model with ``tokens`` cached tokens per row.

    Untied embeddings are left out, because a step reads only one of their rows per token.
    """
    model, config = policy.model, policy.model.config
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    used = [weight for weight in model.parameters() if weight is head or weight is not embeddings]
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return Decoding(
        weight_bytes=float(sum(weight.numel() * weight.element_size() for weight in used)),
        cache_bytes=2.0 * layers * groups * size * embeddings.element_size() * tokens,
        operations=2.0 * sum(weight.numel() for weight in used) + 4.0 * layers * heads * size * tokens,
    )


def measure(bench: Workbench) -> Measured:
    """Measure bandwidth, matrix products and the engine's tokens per second, with the roofline bounds."""
    settings, policy = bench.settings, bench.policy(None)
    repeats, device = settings.repeats, policy.device
    size = settings.at_most(TRAFFIC) * 2**18  # float32 values
    source, target = torch.ones(size, device=device), torch.empty(size, device=device)
    read = 4 * size / fastest(lambda: source.sum(), repeats)
    copied = 8 * size / fastest(lambda: target.copy_(source), repeats)
    width = min(WIDTH, 16 * settings.at_most(WIDTH))
    products = {
        str(dtype).removeprefix("torch."): 2 * width**3 / fastest(product(width, dtype, device), repeats)
        for dtype in (torch.float32, torch.bfloat16)
    }
    dtype = str(bench.model.precision).removeprefix("torch.")
    machine = Machine(max(read, copied), peak_of(dtype, products))
    prompt, new = settings.at_most(settings.prompt_tokens), settings.at_most(settings.new_tokens)
    decoding = decoding_of(policy, prompt + new / 2)
    engine, tokens = bench.engine(Unending(policy)), random_prompt(random.Random(bench.seed), policy, prompt)
    batches = sorted({settings.at_most(batch) for batch in BATCHES})

    def decode(batch: int) -> Callable[[], int]:
        return lambda: ours(engine, [Request(tokens, new)] * batch)

    timed = alternate({str(batch): decode(batch) for batch in batches}, repeats, settings.warmup, equal=False)
    rows, numbers = [], []
    for batch in batches:
        memory, arithmetic = bounds(machine, decoding, batch)
        rate, bound = timed[str(batch)].rate, min(memory, arithmetic)
        cells = [f"{number:.0f}" for number in (memory, arithmetic, rate)]
        rows.append([str(batch), *cells, f"{100 * rate / bound:.0f} %"])
        found = {"memory_bound": memory, "arithmetic_bound": arithmetic, "tokens_per_second": rate}
        numbers.append({"batch": batch, **found})
    peaks = [
        ["read", f"{read / 1e9:.1f} GB/s"],
        ["copy (read and written)", f"{copied / 1e9:.1f} GB/s"],
        *([f"matrix product, {name}", f"{flops / 1e12:.3f} TFLOP/s"] for name, flops in products.items()),
    ]
    return Measured(
        f"Peaks: the fastest of {repeats} repeats; {4 * size / 2**20:.0f} MiB are read and copied, {width} x {width} "
        f"matrices multiplied. Bounds are for {dtype}: a step reads all weights ({decoding.weight_bytes / 2**20:.0f} "
        f"MiB) once, and {decoding.cache_bytes / 2**20:.2f} MiB per row (keys and values of {prompt + new / 2:.0f} "
        "tokens).",
        [
            Table("This machine", ("what", "peak"), peaks),
            Table("Tokens per second", ("batch", "memory bound", "arithmetic bound", "ours", "ours / bound"), rows),
        ],
        [
            f"ours: prompts of {prompt} tokens and {new} new tokens per row, including prefill; median of the repeats",
            "a small model can exceed its memory bound, because weights in the CPU cache are read faster than from "
            "memory",
        ],
        {
            "read_bytes_per_second": read,
            "copy_bytes_per_second": copied,
            "flops": products,
            "decoding": vars(decoding),
            "batches": numbers,
        },
    )


def product(width: int, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    """A function that multiplies two square matrices."""
    a, b = (torch.ones(width, width, dtype=dtype, device=device) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest repeat, after one warm-up call."""
    times: Sequence[float] = [_seconds(work) for _ in range(repeats + 1)][1:]
    return min(times)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin
