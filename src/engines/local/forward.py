"""Decoder for any transformers causal LM, through the model's own ``forward``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache as ModelCache
from transformers.cache_utils import DynamicCache, DynamicLayer

from src.engines.local.cache import Cache, KeysValues, Prefix
from src.models.architecture import attention_window
from src.models.policy import body, head
from src.types import InputError


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer of a ``Cache`` behind the interface of transformers' cache layers, for one decoding step."""

    def __init__(self, layer: KeysValues, rows: int, column: int, end: int) -> None:
        super().__init__()
        self.keys, self.values = (tensor[:rows, :, :end] for tensor in layer)
        self.column = column
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        self.keys[:, :, self.column] = key_states[:, :, 0]
        self.values[:, :, self.column] = value_states[:, :, 0]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.column


class ForwardDecoder:
    """Decodes with the model's own ``forward`` over a preallocated ``Cache``."""

    transposed = continues = False

    def __init__(self, model: Any) -> None:
        self.model, self.dtype = model, model.dtype
        self.window = attention_window(model.config)

    def prefill(
        self, ids: Tensor, lengths: Sequence[int], prefixes: Sequence[Prefix | None]
    ) -> tuple[Tensor, list[KeysValues]]:
        cache, ends = DynamicCache(), torch.tensor(lengths, device=ids.device)
        padded = pad_sequence(list(torch.split(ids, list(lengths))), batch_first=True)
        positions = torch.arange(padded.shape[1], device=ids.device)
        hidden = body(self.model)(
            input_ids=padded,
            position_ids=positions.expand(padded.shape),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        rows, real = torch.arange(len(padded), device=ids.device), positions < ends[:, None]
        layers = [(layer.keys.transpose(1, 2)[real], layer.values.transpose(1, 2)[real]) for layer in cache.layers]
        return head(self.model, hidden[rows, ends - 1]), layers

    def step(self, tokens: Tensor, positions: Tensor, cache: Cache, column: int, mask: Tensor) -> Tensor:
        if self.window is not None and (longest := int(positions.max()) + 1) > self.window:
            raise InputError(
                f"model.name: this model has sliding-window attention over {self.window} tokens, but a turn has "
                f"{longest}; valid: a smaller model.context"
            )
        rows, end = mask.shape
        output = self.model(
            input_ids=tokens[:, None],
            attention_mask=mask[:, None, None],
            position_ids=positions[:, None],
            past_key_values=ModelCache(layers=[_Layer(layer, rows, column, end) for layer in cache.layers]),
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits
