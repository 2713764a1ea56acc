"""A model's sizes, read off its modules; no weights are needed (modules on the meta device will do)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Counts of parameters, and the widths that bytes and operations follow from.

    ``matrices`` are the layers' linear maps, (inputs, outputs) by name: what every token is multiplied with, what an
    adapter may go on, and what 4-bit quantization packs. The head that makes logits is not among them.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    parameters: int  # all, shared ones once
    matrices: Mapping[str, tuple[int, int]]

    @property
    def body(self) -> int:
        """Parameters of the layers' linear maps: the active ones, but for the head."""
        return sum(inputs * outputs for inputs, outputs in self.matrices.values())

    @property
    def attended(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_size

    def adapted(self, targets: tuple[str, ...]) -> dict[str, tuple[int, int]]:
        """The matrices whose names end in one of ``targets``."""
        return {name: sizes for name, sizes in self.matrices.items() if name.rpartition(".")[2] in targets}

    def adapter(self, r: int, targets: tuple[str, ...]) -> int:
        """Parameters of a LoRA adapter of rank ``r``: r (inputs + outputs) a matrix (arXiv 2106.09685, section 4)."""
        return sum(r * (inputs + outputs) for inputs, outputs in self.adapted(targets).values())


def shape_of(model: Any) -> Shape:
    """The sizes of a causal LM of transformers, whose layers are dense (no mixture of experts)."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=config.vocab_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        matrices={
            name: (module.in_features, module.out_features)
            for name, module in model.named_modules()
            if module is not head and hasattr(module, "in_features")
        },
    )
