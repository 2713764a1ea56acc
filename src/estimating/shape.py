"""Sizes of a model, read from its modules. Weights are not needed: the modules may be on the meta device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Parameter counts and widths of a model, from which memory and FLOPs are estimated.

    ``matrices`` holds (inputs, outputs) of each linear map in the layers, by name. Every token is multiplied with them;
    adapters may be attached to them, and 4-bit quantization packs them. The output head is not included.
    ``normalized`` is the width of all vectors that a layer normalizes per token: twice the hidden size in a Llama, more
    in Gemma, which also normalizes queries, keys, and the outputs of attention and MLP.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    parameters: int  # all parameters; shared ones count once
    matrices: Mapping[str, tuple[int, int]]
    normalized: float

    @property
    def body(self) -> int:
        """Parameters of the layers' linear maps: the active parameters without the head."""
        return sum(inputs * outputs for inputs, outputs in self.matrices.values())

    @property
    def attended(self) -> int:
        """Total width of all query heads."""
        return self.heads * self.head_size

    def adapted(self, targets: str | Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the matrices whose names end in one of ``targets``, or all of them for ``"all-linear"``."""
        if targets == "all-linear":
            return dict(self.matrices)
        return {name: sizes for name, sizes in self.matrices.items() if name.rpartition(".")[2] in targets}

    def adapter(self, r: int, targets: str | Sequence[str]) -> int:
        """Parameters of a LoRA adapter of rank ``r``: r (inputs + outputs) per matrix (arXiv 2106.09685, section 4)."""
        return sum(r * (inputs + outputs) for inputs, outputs in self.adapted(targets).values())


def shape_of(model: Any) -> Shape:
    """Read the sizes of a dense causal LM from transformers (mixtures of experts are not supported)."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    whole = {"q_norm": heads * head_size, "k_norm": kv_heads * head_size}  # their weights may be those of one head
    norms = (
        whole.get(name.rpartition(".")[2], module.weight.numel())
        for name, module in model.named_modules()
        if re.search(r"\.\d+\.", name) and getattr(getattr(module, "weight", None), "ndim", 0) == 1
    )
    return Shape(
        layers=layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=config.vocab_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        matrices={
            name: (module.in_features, module.out_features)
            for name, module in model.named_modules()
            if module is not head and hasattr(module, "in_features")
        },
        normalized=sum(norms) / layers,
    )
