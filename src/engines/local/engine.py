"""The local engine: continuous batching for any transformers causal LM, with a fast decoder for Llama models."""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.engines.base import Weights
from src.engines.local.batch import Batch, need
from src.engines.local.cache import Decoder, Draw
from src.engines.local.forward import ForwardDecoder
from src.engines.local.llama import LlamaDecoder
from src.engines.local.native import DTYPES, Kernels, NativeError
from src.engines.local.sampling import draw
from src.types import Children, InputError, OnToken, Turn, Writer

logger = logging.getLogger(__name__)


@dataclass
class LocalEngine:
    """Generates turns in one batch that is refilled as turns finish (continuous batching).

    ``max_batch_tokens`` bounds the KV cache, counted as rows x (prompt + new tokens); the cache of prompt prefixes
    that later rounds reuse is bounded by an eighth of it. ``native`` selects compiled code for the operations of a
    decoding step other than matrix products (Llama architecture on a CPU, float32 or bfloat16); ``auto`` uses it where
    possible. ``own_forward`` decodes with the model's own ``forward``, also for Llama models.
    """

    weights: Weights
    max_batch_tokens: int = 65536
    native: bool | str = "auto"
    own_forward: bool = False

    def __post_init__(self) -> None:
        self._closing: NDArray[np.int64] | None = None

    @torch.inference_mode()
    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting: dict[Writer, list[Turn]] = {writer: [] for writer in Writer}
        finished: list[Turn] = []
        _add(waiting, turns)
        while any(waiting.values()):  # all turns of one writer, then of the other: switching writers copies weights
            writer = next(writer for writer, queue in waiting.items() if queue)
            queue = waiting[writer]
            with self.weights.writing(writer) as model:
                decoder, draw = self._decoder(model)
                batch = Batch(decoder, draw, self.weights, self._closers(), self.max_batch_tokens)
                while queue or batch.writing:
                    batch.admit(queue)
                    for turn in batch.sample(on_token):
                        finished.append(turn)
                        _add(waiting, children(turn))
                    batch.advance()
        return finished

    def _decoder(self, model: Any) -> tuple[Decoder, Draw]:
        lean = LlamaDecoder.fits(model) and not self.own_forward
        if self.native and lean and model.device.type == "cpu" and model.dtype in DTYPES and self._kernels:
            return LlamaDecoder(model, self._kernels), self._kernels.draw
        if self.native is True:
            raise InputError(
                f"engine.native=true: the compiled kernels do not support {type(model).__name__} in {model.dtype} on "
                f"{model.device}; valid: auto, false, or a Llama or Qwen2 model in float32 or bfloat16 on the CPU"
            )
        return LlamaDecoder(model) if lean else ForwardDecoder(model), draw

    @cached_property
    def _kernels(self) -> Kernels | None:
        """The compiled kernels, or None if they are unavailable.

        Resolved once per engine: kernels and torch round differently, so switching in between could change tokens.
        """
        try:
            return Kernels()
        except NativeError as error:
            if self.native is True:
                raise InputError(f"engine.native=true: {error}; valid: auto, false, or install a compiler") from error
            logger.warning("engine.native=auto: compiled kernels are unavailable, generation is slower: %s", error)
            return None

    def _closers(self) -> NDArray[np.int64]:
        """Ids of the tokens that can complete the closing tag ``</answer>``: those whose text contains ``>``."""
        if self._closing is None:
            codec = self.weights.codec
            size = getattr(codec, "size", 0)
            self._closing = np.array([token for token in range(size) if ">" in codec.decode([token])], dtype=np.int64)
        return self._closing


def _add(waiting: dict[Writer, list[Turn]], turns: Iterable[Turn]) -> None:
    """Insert turns into their writer's queue: shortest first, turns with the same prompt next to each other."""
    for turn in turns:
        insort(waiting[turn.writer], turn, key=lambda turn: (need(turn), turn.prompt))
