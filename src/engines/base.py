"""The contract of an engine: turns in, completions with log-probs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from src.settings import Section
from src.types import Codec, Engine, Writer

if TYPE_CHECKING:
    from src.models.settings import ModelSettings


class Weights(Protocol):
    """The model behind an engine: one set of base weights, written as by the policy or by the base."""

    codec: Codec
    device: Any
    end_tokens: frozenset[int]
    pad_token: int

    def writing(self, writer: Writer) -> AbstractContextManager[Any]:
        """The causal LM, ready to write as ``writer`` until the context closes."""
        ...


class EngineSettings(Section, ABC):
    """The settings of an engine."""

    @property
    def cache_tokens(self) -> int:
        """Tokens of the key-value cache that this process holds; 0 if the engine holds its cache elsewhere."""
        return 0

    @property
    def reserved(self) -> float:
        """Share of the device's memory that the engine reserves for itself."""
        return 0.0

    @abstractmethod
    def build(self, weights: Any, model: ModelSettings) -> Engine:
        """The engine that samples from ``weights`` (a policy, or other ``Weights``) of ``model``."""
