"""Contracts of generation engines: the weights they read, and the settings that build them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from src.settings import Section
from src.types import Codec, Engine, NumberError, Turn, Writer

if TYPE_CHECKING:
    from src.models.settings import ModelSettings


class Weights(Protocol):
    """The model that an engine samples from: one set of base weights, used as the policy or as the base."""

    codec: Codec
    device: Any
    end_tokens: frozenset[int]
    pad_token: int

    def writing(self, writer: Writer) -> AbstractContextManager[Any]:
        """The causal LM with the weights of ``writer`` (policy or base), until the context closes."""
        ...


def diverged(turn: Turn, source: str) -> NumberError:
    """The error about a sampled log-prob that is not finite; ``source`` says where it is from."""
    message = (
        f"{source} a log-prob that is not finite for turn {turn.path} of tree {turn.tree}: the weights have diverged "
        "(lower optimizer.lr or train.max_grad_norm) or overflow in this dtype (model.dtype)"
    )
    return NumberError(message, turn.tree, turn.path, fatal=True)


class EngineSettings(Section, ABC):
    """The settings of an engine."""

    @property
    def cache_tokens(self) -> int:
        """Size in tokens of the KV cache in this process; 0 if the engine keeps its cache in another process."""
        return 0

    @property
    def reserved(self) -> float:
        """Fraction of the device's memory that the engine reserves for itself."""
        return 0.0

    @abstractmethod
    def build(self, weights: Any, model: ModelSettings) -> Engine:
        """Build the engine that samples from ``weights`` (a policy, or other ``Weights``) of ``model``."""
