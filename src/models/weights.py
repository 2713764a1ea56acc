"""Hashes of weights, and loading of adapter tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, load_peft_weights
from torch import Tensor, nn

from src.models.settings import refuse_pickled_adapter


def adapter_weights(model: Any, folder: Path) -> dict[str, Tensor]:
    """Load an adapter's tensors from disk and check that none is missing, which PEFT itself does not.

    Raises:
        InputError: it is a pickle.
        ValueError: its tensor names differ from those of the model's adapter.
    """
    refuse_pickled_adapter(folder)
    weights: dict[str, Tensor] = load_peft_weights(str(folder), device="cpu")
    if wrong := sorted(set(weights) ^ set(get_peft_model_state_dict(model, save_embedding_layers=False))):
        raise ValueError(f"{len(wrong)} tensors are only in the file or only in the model's adapter, e.g. {wrong[0]}")
    return weights


def weights_hash(parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    """SHA-256 over the names, shapes, dtypes and bytes of parameters, including the scales of 4-bit weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(parameters, key=lambda item: item[0]):
        tensors = {name: parameter.detach()}
        if (scales := getattr(parameter, "quant_state", None)) is not None:
            tensors |= {f"{name}.{key}": scale for key, scale in sorted(scales.as_dict(packed=True).items())}
        for full, tensor in tensors.items():
            digest.update(f"{full}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
