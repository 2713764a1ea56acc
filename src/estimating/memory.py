"""Bytes that a job holds, from a model's sizes and the settings that bound them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from src.engines.local.batch import PREFIXES
from src.estimating.shape import Shape
from src.models.policy import LOGITS_AT_ONCE
from src.models.settings import ModelSettings

NF4 = 1 / 2 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a 4-bit weight: itself, an 8-bit scale for 64 of them, a 32-bit one for 256 scales (arXiv 2305.14314)."""

LOGIT_COPIES = 5
"""Tensors of a chunk's logits in single precision that are alive together: logits, at their temperature, log-probs,
probabilities, and their product or the gradient."""


@dataclass(frozen=True)
class Job:
    """What bounds the memory of a job; ``micro_batch_tokens`` is 0 where nothing is trained."""

    model: ModelSettings
    cache_tokens: int = 0  # engine.max_batch_tokens
    micro_batch_tokens: int = 0  # train.micro_batch_tokens
    moment_bytes: int | None = None  # of each of AdamW's two moments of a parameter; None is the parameter's own size
    keep_start: bool = False  # a copy of all weights as they were at the start, where all are trained
    lent: float = 0.0  # share of a GPU's memory that an engine takes for itself (engine.memory)


@dataclass(frozen=True)
class Demand:
    """Bytes by what they are for. What is written is over when training begins, and the other way around."""

    weights: float
    adapter: float
    start: float
    gradients: float
    optimizer: float
    merging: float  # a copy of the matrices that the adapter is added into while the policy writes
    cache: float
    activations: float
    logits: float

    @property
    def resident(self) -> float:
        """What stays from the first step on."""
        return self.weights + self.adapter + self.start + self.gradients + self.optimizer

    @property
    def peak(self) -> float:
        """The most that is held at a time."""
        return self.resident + max(self.merging + self.cache, self.activations + self.logits)


def weight_bytes(shape: Shape, model: ModelSettings) -> float:
    """Bytes of the base weights. Quantization packs the layers' matrices; embeddings, head and norms stay as they
    are."""
    packed = shape.body if model.quantization else 0
    return packed * NF4 + (shape.parameters - packed) * model.precision.itemsize


def cache_bytes(shape: Shape, model: ModelSettings) -> int:
    """Bytes of one token's keys and values: 2 x layers x key-value heads x head size numbers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_size * model.precision.itemsize


def activation_bytes(shape: Shape, model: ModelSettings, tokens: int, width: int | None = None) -> float:
    """Bytes that a forward pass over ``tokens`` keeps for its backward pass, in sequences of ``width`` tokens.

    A token and layer, in numbers, h hidden, a all heads' width, f intermediate: 2h residuals and 2 scales of the norms
    (single precision), 2a queries and attention's result, its logarithm for each head (single precision), 3f of the
    gated MLP; keys and values, on a GPU repeated for all heads and with ``width`` of the mask; and the inputs of what
    is trained: 4h + f for all weights, 2h + f and r numbers a matrix for an adapter, whose projections share inputs.
    Beside weights in half precision, so is a copy of the adapter.

    With gradient checkpointing that is one layer's; of every layer, its input is kept.

    Assumes what the learner does: attention that keeps no tokens x tokens scores, dropout off; and that every
    projection of a layer of Llama's shape has an adapter. Other shapes are as good as they are similar.
    """
    size, h, a, f = model.precision.itemsize, shape.hidden, shape.attended, shape.intermediate
    keys: float = 2 * shape.kv_heads * shape.head_size if model.placed == "cpu" else 2 * a + (width or tokens)
    inputs, copy = 4.0 * h + f, 0.0
    if model.lora is not None:
        r, targets = model.lora.r, tuple(model.lora.targets)
        inputs = 2 * h + f + r * len(shape.adapted(targets)) / shape.layers
        copy = size * shape.adapter(r, targets) / shape.layers if size < 4 else 0.0
    kept = tokens * (size * (2 * a + 3 * f + keys + inputs) + max(size, 4) * 2 * h + 4 * (shape.heads + 2)) + copy
    return shape.layers * tokens * size * h + kept if model.gradient_checkpointing else shape.layers * kept


def demand(shape: Shape, job: Job) -> Demand:
    """The bytes of a job, with AdamW's two moments of everything that is trained.

    Adapters are in single precision at least, as PEFT makes them. The mask is that of one sequence of all tokens of a
    micro-batch, the most that it can be.
    """
    model = job.model
    size = model.precision.itemsize
    lora = model.lora
    adapter = shape.adapter(lora.r, tuple(lora.targets)) * max(size, 4) if lora else 0
    trained = (adapter if lora else shape.parameters * size) if job.micro_batch_tokens else 0
    merges = lora is not None and model.quantization is None and model.precision in (torch.float32, torch.float64)
    merged = sum(i * o for i, o in shape.adapted(tuple(lora.targets)).values()) * size if lora and merges else 0
    logits = min(LOGITS_AT_ONCE, job.micro_batch_tokens * shape.vocabulary) * max(size, 4) * LOGIT_COPIES
    return Demand(
        weights=weight_bytes(shape, model),
        adapter=adapter,
        start=adapter if model.adapter else (0 if lora else job.keep_start * shape.parameters * size),
        gradients=trained,
        optimizer=2 * (trained if job.moment_bytes is None else job.moment_bytes * trained // max(size, 4)),
        merging=merged if job.cache_tokens else 0,
        cache=cache_bytes(shape, model) * job.cache_tokens * (1 + PREFIXES),
        activations=activation_bytes(shape, model, job.micro_batch_tokens) if job.micro_batch_tokens else 0,
        logits=logits,
    )
