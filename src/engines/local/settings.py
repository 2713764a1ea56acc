"""Settings of the local engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from src.engines.base import EngineSettings
from src.settings import RunSettings

if TYPE_CHECKING:
    from src.engines.local.engine import LocalEngine
    from src.models.settings import ModelSettings


class Local(EngineSettings):
    """Generation in this process with continuous batching.

    ``max_batch_tokens`` bounds the KV cache, counted as rows x (prompt + new tokens); prompt prefixes that later
    rounds reuse take up to an eighth more. ``native`` selects compiled code for the operations of a decoding step
    other than matrix products (Llama architecture on a CPU, float32 or bfloat16); ``auto`` uses it where possible.
    """

    max_batch_tokens: int = Field(65536, ge=1)
    native: bool | Literal["auto"] = "auto"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        least = run.rounds.turn_tokens if run.rounds is not None else 1
        if self.max_batch_tokens < least:
            yield (
                f"engine.max_batch_tokens={self.max_batch_tokens} holds no whole turn: rounds.first_tokens and "
                f"rounds.later_tokens let one take {least} tokens with its prompt; use {least} or more"
            )

    @property
    def cache_tokens(self) -> int:
        return self.max_batch_tokens

    @property
    def random_numbers(self) -> str:
        return "local"

    def build(self, weights: Any, model: ModelSettings) -> LocalEngine:
        from src.engines.local.engine import LocalEngine

        return LocalEngine(weights, self.max_batch_tokens, self.native)


class HF(Local):
    """Generation in this process with the model's own forward pass in transformers.

    Slower than ``Local``, with the same random numbers. ``evaluation.floor_engine=hf`` measures how many verdicts
    change with the engine.
    """

    native: Literal[False] = False

    def build(self, weights: Any, model: ModelSettings) -> LocalEngine:
        from src.engines.local.engine import LocalEngine

        return LocalEngine(weights, self.max_batch_tokens, native=False, own_forward=True)
