"""The output head of a causal LM, apart from its body, so that logits are computed only where they are needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def body(model: Any) -> Any:
    """The part of a causal LM that computes hidden states."""
    return getattr(model, model.base_model_prefix)


def head(model: Any, hidden: Tensor) -> Tensor:
    """Logits of the last hidden states, with the model's own scaling and soft-capping."""
    config = model.config
    logits: Tensor = model.get_output_embeddings()(hidden)
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits / getattr(config, "logits_scaling", 1.0) * getattr(config, "logit_scale", 1.0)  # Granite, Cohere
