"""Time estimates by the roofline model: a pass is limited by FLOPs or by memory traffic, whichever is slower."""

from __future__ import annotations

import math
from dataclasses import dataclass

from src.estimating import operations
from src.estimating.memory import cache_bytes, weight_bytes
from src.estimating.shape import Shape
from src.models.settings import ModelSettings

NF4_MOVED = 1 / 2 + 2 + 2
"""Bytes moved per 4-bit weight with several rows: it is read, dequantized to half precision, and read again."""


@dataclass(frozen=True)
class Device:
    """Peak performance of a device (data sheet), and the shares of it that are assumed to be reached."""

    name: str
    memory: float  # bytes
    peak_flops: float  # per second; dense, half precision
    bandwidth: float  # bytes per second
    flops_share: float = 0.4
    bandwidth_share: float = 0.6
    step_seconds: float = 0.03  # overhead of each decoding step: Python and kernel launches

    @property
    def flops(self) -> float:
        """Assumed FLOPs per second."""
        return self.peak_flops * self.flops_share

    @property
    def moved(self) -> float:
        """Assumed memory bandwidth in bytes per second."""
        return self.bandwidth * self.bandwidth_share


def decoding_step(shape: Shape, model: ModelSettings, device: Device, rows: float, seen: float) -> float:
    """Seconds to decode one token for each of ``rows`` sequences with ``seen`` tokens each in the KV cache.

    The roofline (Williams et al., Commun. ACM 52, 2009) plus the device's ``step_seconds``.
    """
    adapter = _adapter(shape, model)
    arithmetic = operations.forward(shape, rows, seen, rows, adapter) / device.flops
    weights = weight_bytes(shape, model)
    if model.quantization and rows > 1:
        weights = shape.body * NF4_MOVED + (shape.parameters - shape.body) * model.precision.itemsize
    memory = (weights + rows * seen * cache_bytes(shape, model)) / device.moved
    return max(arithmetic, memory) + device.step_seconds


def writing(
    shape: Shape, model: ModelSettings, device: Device, turns: float, prompt: float, tokens: float, cache_tokens: int
) -> float:
    """Seconds to generate ``turns`` completions of ``tokens`` tokens, as many at a time as the KV cache holds."""
    rows = min(turns, max(1, cache_tokens // (prompt + tokens)))
    prefill = operations.forward(shape, turns * prompt, prompt, turns, _adapter(shape, model)) / device.flops
    steps = math.ceil(turns / rows) * tokens
    return prefill + steps * decoding_step(shape, model, device, rows, prompt + tokens / 2)


def learning(shape: Shape, model: ModelSettings, device: Device, rows: float, prompt: float, tokens: float) -> float:
    """Seconds of a forward and backward pass over ``rows`` completions, each with its own prompt."""
    length = prompt + tokens
    checkpointed = model.gradient_checkpointing
    work = operations.training(
        shape, rows * length, length, rows * tokens, _adapter(shape, model), checkpointed=checkpointed
    )
    return work / device.flops


def _adapter(shape: Shape, model: ModelSettings) -> int:
    return shape.adapter(model.lora.r, tuple(model.lora.targets)) if model.lora else 0
