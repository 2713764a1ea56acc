"""Settings of the local engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from src.engines.base import EngineSettings

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

    @property
    def cache_tokens(self) -> int:
        return self.max_batch_tokens

    def build(self, weights: Any, model: ModelSettings) -> LocalEngine:
        from src.engines.local.engine import LocalEngine

        return LocalEngine(weights, self.max_batch_tokens, self.native)
