"""A batched sampler over any transformers causal LM, lean where the model has the Llama shape."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.engines.base import OnToken, Weights
from src.engines.batch import Batch, need
from src.engines.cache import Decoder
from src.engines.forward import ForwardDecoder
from src.engines.llama import LlamaDecoder
from src.records import Children, Turn, Writer


@dataclass
class TransformersEngine:
    """Writes turns in one batch that is refilled as turns end.

    ``max_batch_tokens`` bounds the key-value cache: rows x (prompt + new tokens) stay under it.
    """

    weights: Weights
    max_batch_tokens: int = 65536

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        tokens = self.max_batch_tokens
        return [] if tokens > 0 else [f"engine.max_batch_tokens={tokens} must be 1 or more"]

    def __post_init__(self) -> None:
        self._closing: NDArray[np.int64] | None = None

    @torch.inference_mode()
    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting: dict[Writer, list[Turn]] = {writer: [] for writer in Writer}
        finished: list[Turn] = []
        _add(waiting, turns)
        while any(waiting.values()):  # all that one writer has to write, then the other: switching moves the weights
            writer = next(writer for writer, queue in waiting.items() if queue)
            queue = waiting[writer]
            with self.weights.writing(writer) as model:
                batch = Batch(self._decoder(model), self.weights, self._closers(), self.max_batch_tokens)
                while queue or batch.writing:
                    batch.admit(queue)
                    for turn in batch.sample(on_token):
                        finished.append(turn)
                        _add(waiting, children(turn))
                    batch.advance()
        return finished

    def _decoder(self, model: Any) -> Decoder:
        return LlamaDecoder(model) if LlamaDecoder.fits(model) else ForwardDecoder(model)

    def _closers(self) -> NDArray[np.int64]:
        """The tokens that can complete the protocol's closing tag."""
        if self._closing is None:
            codec = self.weights.codec
            size = getattr(codec, "size", 0)
            self._closing = np.array([token for token in range(size) if ">" in codec.decode([token])], dtype=np.int64)
        return self._closing


def _add(waiting: dict[Writer, list[Turn]], turns: Iterable[Turn]) -> None:
    """Queue turns, shortest first, those with the same prompt side by side."""
    for turn in turns:
        insort(waiting[turn.writer], turn, key=lambda turn: (need(turn), turn.prompt))
