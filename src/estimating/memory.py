"""Memory estimate of a job in bytes, from the model's shape and the settings that bound batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from src.engines.local.batch import PREFIXES
from src.estimating.shape import Shape
from src.models.policy import LOGITS_AT_ONCE
from src.models.settings import ModelSettings

NF4 = 1 / 2 + 1 / 64 + 4 / (64 * 256)
"""Bytes per 4-bit weight: 4 bits, an 8-bit scale per 64 weights, a 32-bit scale per 256 scales (arXiv 2305.14314)."""

LOGIT_COPIES = 5
"""Number of single-precision tensors of a chunk's logits that are alive together: logits, logits divided by the
temperature, log-probs, probabilities, and their product or the gradient."""

SAMPLED_COPIES = 4
"""The same in sampling a token per row, without top-p: logits, logits divided by the temperature, probabilities, and
probabilities padded to whole blocks."""


@dataclass(frozen=True)
class Job:
    """Settings that determine the memory of a job. ``micro_batch_tokens`` is 0 if nothing is trained."""

    model: ModelSettings
    cache_tokens: int = 0  # engine.max_batch_tokens
    micro_batch_tokens: int = 0  # train.micro_batch_tokens
    moment_bytes: int | None = None  # per parameter, for each of AdamW's two moments; None: the size of the parameter
    keep_start: bool = False  # whether a copy of the initial weights is kept, if all weights are trained
    lent: float = 0.0  # share of the GPU's memory that the engine reserves (engine.memory)


@dataclass(frozen=True)
class Demand:
    """Memory demand in bytes by purpose. Sampling and training alternate, so their transient parts never coexist."""

    weights: float
    adapter: float
    start: float  # copy of the initial weights or of the initial adapter
    gradients: float
    optimizer: float
    merging: float  # copies of the weight matrices that the adapter is merged into while sampling
    cache: float  # KV cache
    sampling: float  # logits of the rows that are sampled together
    activations: float  # kept for the backward pass
    logits: float

    @property
    def resident(self) -> float:
        """Bytes that stay allocated from the first step on."""
        return self.weights + self.adapter + self.start + self.gradients + self.optimizer

    @property
    def peak(self) -> float:
        """Maximum number of bytes at any time."""
        return self.resident + max(self.merging + self.cache + self.sampling, self.activations + self.logits)


def weight_bytes(shape: Shape, model: ModelSettings) -> float:
    """Bytes of the base weights. Quantization packs only the layers' matrices, not embeddings, head and norms."""
    packed = shape.body if model.quantization else 0
    return packed * NF4 + (shape.parameters - packed) * model.precision.itemsize


def cache_bytes(shape: Shape, model: ModelSettings) -> int:
    """Bytes of one token in the KV cache: 2 x layers x key-value heads x head size numbers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_size * model.precision.itemsize


def activation_bytes(shape: Shape, model: ModelSettings, tokens: int, width: int | None = None) -> float:
    """Bytes of activations that a forward pass over ``tokens`` keeps for its backward pass.

    ``width`` is the length of a sequence; by default all tokens are one sequence. Numbers per token and layer, with
    h = hidden size, a = width of all heads, f = intermediate size, n = normalized width (2h in a Llama):

    - n for the inputs of the norms and 2 scales (single precision);
    - 2a for queries and attention output, and one log-sum-exp per head (single precision);
    - 3f for the gated MLP;
    - keys and values; on a GPU these are repeated for all heads, plus ``width`` for the attention mask;
    - the inputs of trained matrices: 2h + f, and n for the norms if all weights are trained; for an adapter, whose
      projections share inputs, r per matrix. With half-precision weights, a half-precision copy of the adapter is kept
      too.

    With gradient checkpointing, all of this counts for one layer only, plus the input of every layer.

    Assumptions: attention keeps no tokens x tokens scores, dropout is off (both hold in the learner), and every
    projection of a Llama-shaped layer has an adapter. The estimate is less accurate for models of another shape.
    """
    size, h, a, f = model.precision.itemsize, shape.hidden, shape.attended, shape.intermediate
    keys: float = 2 * shape.kv_heads * shape.head_size if model.placed == "cpu" else 2 * a + (width or tokens)
    inputs, copy = 2 * h + f + shape.normalized, 0.0
    if model.lora is not None:
        r, targets = model.lora.r, model.lora.targets
        inputs = 2 * h + f + r * len(shape.adapted(targets)) / shape.layers
        copy = size * shape.adapter(r, targets) / shape.layers if size < 4 else 0.0
    norms = max(size, 4) * shape.normalized
    kept = tokens * (size * (2 * a + 3 * f + keys + inputs) + norms + 4 * (shape.heads + 2)) + copy
    return shape.layers * tokens * size * h + kept if model.gradient_checkpointing else shape.layers * kept


def logit_bytes(shape: Shape, model: ModelSettings, tokens: int) -> float:
    """Bytes for the logits of training on ``tokens``, of which as many as ``LOGITS_AT_ONCE`` allows are alive together.

    A trained head has its gradient summed over such pieces before it is added to that of earlier micro-batches: the sum
    and the gradient of one piece are alive beside three of the ``LOGIT_COPIES``.
    """
    size, asked = model.precision.itemsize, tokens * shape.vocabulary
    piece = min(LOGITS_AT_ONCE, asked) * max(size, 4)
    summed = 2 * shape.vocabulary * shape.hidden * size if model.lora is None and asked > LOGITS_AT_ONCE else 0
    return max(LOGIT_COPIES * piece, 3 * piece + summed)


def demand(shape: Shape, job: Job) -> Demand:
    """Estimate the memory demand of a job, with AdamW's two moments for all trained parameters.

    Adapters have at least single precision, as PEFT creates them. The attention mask is counted for one sequence with
    all tokens of a micro-batch, which is the maximum. Rows that are sampled together are counted as if each had
    ``model.round_tokens`` tokens, its prompt included, which is about the maximum.
    """
    model = job.model
    size = model.precision.itemsize
    lora = model.lora
    adapter = shape.adapter(lora.r, lora.targets) * max(size, 4) if lora else 0
    trained = (adapter if lora else shape.parameters * size) if job.micro_batch_tokens else 0
    merges = lora is not None and model.quantization is None and model.precision in (torch.float32, torch.float64)
    merged = sum(i * o for i, o in shape.adapted(lora.targets).values()) * size if lora and merges else 0
    rows = math.ceil(job.cache_tokens / model.round_tokens)
    return Demand(
        weights=weight_bytes(shape, model),
        adapter=adapter,
        start=adapter if model.adapter else (0 if lora else job.keep_start * shape.parameters * size),
        gradients=trained,
        optimizer=2 * (trained if job.moment_bytes is None else job.moment_bytes * trained // max(size, 4)),
        merging=merged if job.cache_tokens else 0,
        cache=cache_bytes(shape, model) * job.cache_tokens * (1 + PREFIXES),
        sampling=rows * shape.vocabulary * max(size, 4) * SAMPLED_COPIES,
        activations=activation_bytes(shape, model, job.micro_batch_tokens) if job.micro_batch_tokens else 0,
        logits=logit_bytes(shape, model, job.micro_batch_tokens),
    )
