"""Contracts of generation engines: the weights they read, and the settings that build them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from src.settings import Section
from src.types import Codec, Engine, NumberError, Status, Turn, Writer

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


def closed(
    turn: Turn, completion: Sequence[int], logprobs: Sequence[float], reason: str, weights: Weights, source: str
) -> Turn:
    """The finished turn, from what an engine in another process sampled.

    ``logprobs`` has one entry per token of ``completion``, at the sampling temperature after top-p; they are kept where
    they are those of the full distribution (no top-p, or greedy). ``reason`` is ``stop``, or ``length`` for a turn that
    reached its budget. ``source`` names the engine in messages.

    Raises:
        NumberError: a log-prob is not finite.
    """
    if not all(map(math.isfinite, logprobs)):
        raise diverged(turn, f"{source} returned")
    sampling = turn.sampling
    whole = sampling.top_p == 1 or sampling.temperature == 0
    shown = completion[:-1] if completion and completion[-1] in weights.end_tokens else completion
    return replace(
        turn,
        status=Status.DONE if reason == "stop" else Status.TRUNCATED,
        completion=tuple(completion),
        logprobs=tuple(logprobs) if whole else (),
        model_logprobs=tuple(logprobs) if whole and sampling.temperature in (0, 1) else (),
        text=weights.codec.decode(shown),
    )


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

    @property
    def random_numbers(self) -> str:
        """Name of the way in which tokens are drawn; with the same one, equal logits give the same tokens."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @abstractmethod
    def build(self, weights: Any, model: ModelSettings) -> Engine:
        """Build the engine that samples from ``weights`` (a policy, or other ``Weights``) of ``model``."""
