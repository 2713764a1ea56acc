"""LoRA layers of a model: the weights that they adapt, and whether they can be merged into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

Adapted = tuple[Any, nn.Parameter]
"""A LoRA layer and the base weight that it adapts."""


def adapted_weights(model: Any) -> list[Adapted]:
    """The LoRA layers of ``model``, each with its base weight: that of a module, or one parameter (experts)."""
    return [
        (layer, layer.get_param() if isinstance(layer, ParamWrapper) else layer.get_base_layer().weight)
        for layer in model.modules()
        if isinstance(layer, LoraLayer)
    ]


def mergeable(adapted: Sequence[Adapted], model: Any) -> bool:
    """Whether adding the product of the LoRA matrices to the weights gives the adapted model.

    Not in half precision, which rounds small products away, nor for 4-bit weights; not if an adapter adds more than
    this product (biases, DoRA); not if the weight is shared by input and output embeddings, which would both change.
    """
    tied = set(map(id, tied_weights(model)))
    return bool(adapted) and all(
        weight.dtype in (torch.float32, torch.float64)
        and id(weight) not in tied
        and not layer.lora_variant
        and not any(layer.lora_bias.values())
        for layer, weight in adapted
    )


def tied_weights(model: Any) -> list[nn.Parameter]:
    """The weights that the input and output embeddings of a causal LM share."""
    inputs, outputs = (
        [] if side is None else list(side.parameters())
        for side in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    return [weight for weight in inputs if any(weight is other for other in outputs)]


def untie(model: Any) -> None:
    """Give adapted embeddings weights of their own, so that an adapter on one side can be merged."""
    tied = set(map(id, tied_weights(model)))
    adapted = [(layer, weight) for layer, weight in adapted_weights(model) if id(weight) in tied]
    for layer, weight in adapted:
        layer.get_base_layer().weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if adapted:
        model.config.tie_word_embeddings = False
