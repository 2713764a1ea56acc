"""Gradient checkpointing: activations are recomputed in the backward pass instead of being stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from src.types import InputError


def recompute(model: nn.Module) -> None:
    """Enable gradient checkpointing: every layer stores only its input for the backward pass (arXiv 1604.06174).

    transformers' own switch works only in training mode. The policy stays in evaluation mode, because dropout would
    make the trained log-probs differ from the sampled ones.

    Raises:
        InputError: the model has no layers that support gradient checkpointing.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise InputError(
            f"model.gradient_checkpointing=true: {type(model).__name__} has no layers that support it; "
            "set it to false and limit memory with train.micro_batch_tokens"
        )
    for layer in layers:
        layer.forward = partial(_again_in_backward, layer, layer.forward)


def _again_in_backward(layer: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    half = torch.is_autocast_enabled(next(layer.parameters()).device.type)

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), disable_input_dtype_casting(layer, active=half)  # as in the policy's forward pass

    keep: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
    return checkpoint(forward, *inputs, **keep, **options)
