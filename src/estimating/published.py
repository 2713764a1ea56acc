"""Shapes of models from their published configurations, for machines that cannot reach the hub."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from src.estimating.shape import Shape, shape_of
from src.models.loading import blueprint
from src.models.settings import ModelSettings

QWEN = {
    "Qwen/Qwen2.5-3B-Instruct": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    }
}
"""Published configurations by name on the hub."""


def published_shape(name: str) -> Shape:
    """The shape of a model of ``QWEN``; needs no network and no weights."""
    with torch.device("meta"):
        return shape_of(AutoModelForCausalLM.from_config(Qwen2Config(**QWEN[name]), dtype=torch.bfloat16))


def shape_for(model: ModelSettings) -> Shape:
    """The shape of a configured model: as published, or from its configuration file.

    Raises:
        InputError: its configuration cannot be loaded.
    """
    return published_shape(model.name) if model.name in QWEN else shape_of(blueprint(model))
