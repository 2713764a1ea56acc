"""Hashes of weights, saving and loading them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from src.models.settings import refuse_pickled_adapter
from src.models.sharding import like
from src.types import InputError


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
            # A copy: NumPy would keep the storage from being resized, which sharded weights need.
            copy = tensor.cpu().clone(memory_format=torch.contiguous_format)
            digest.update(copy.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_weights(model: Any, tokenizer: Any, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Save an adapter in PEFT's layout, or a whole model with its tokenizer; ``state`` replaces ``state_dict()``."""
    if isinstance(model, PeftModel):
        model.save_pretrained(folder, save_embedding_layers=False, state_dict=state)
    else:
        model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)


def load_weights(model: Any, folder: Path) -> None:
    """Load the weights that ``Policy.save`` wrote, also into a model whose weights are sharded.

    Raises:
        InputError: the weights do not fit the model.
    """
    try:
        if isinstance(model, PeftModel):
            ours = get_peft_model_state_dict(model, save_embedding_layers=False)
            set_peft_model_state_dict(model, like(adapter_weights(model, folder / "adapter"), ours))
            return
        saved = AutoModelForCausalLM.from_pretrained(
            folder / "model", dtype=model.dtype, use_safetensors=True, trust_remote_code=False
        )
        model.load_state_dict(like(saved.state_dict(), model.state_dict()))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the weights in {folder} cannot be loaded: {error}") from error
