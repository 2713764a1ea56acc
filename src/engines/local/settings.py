"""Settings of the local sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from src.engines.base import EngineSettings

if TYPE_CHECKING:
    from src.engines.local.engine import LocalEngine
    from src.models.settings import ModelSettings


class Local(EngineSettings):
    """Batched sampling in this process.

    ``max_batch_tokens`` bounds the key-value cache: rows x (prompt + new tokens); prompt prefixes that later rounds
    reuse take up to an eighth more. ``native`` compiles the operations of a decoding step outside its matrix products
    (CPU, float32 and bfloat16, Llama shape): ``auto`` where possible.
    """

    max_batch_tokens: int = Field(65536, ge=1)
    native: bool | Literal["auto"] = "auto"

    @property
    def cache_tokens(self) -> int:
        return self.max_batch_tokens

    def build(self, weights: Any, model: ModelSettings) -> LocalEngine:
        from src.engines.local.engine import LocalEngine

        return LocalEngine(weights, self.max_batch_tokens, self.native)
