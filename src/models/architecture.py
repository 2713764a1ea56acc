"""Architectures that can be sampled from and trained: checks of a model's configuration before its weights load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import AutoModelForCausalLM

from src.models.settings import ModelSettings
from src.types import InputError

ATTENTION = {"full_attention", "sliding_attention"}
"""Types of layers that keep keys and values of every token, so that rounds and siblings can share a prompt."""

ALIBI = {"bloom", "mpt"}
"""Families that encode positions as a bias on attention scores, which a packed batch has no place for."""

LENGTH_DEPENDENT = {"dynamic", "longrope"}
"""Types of rotary embedding whose angles depend on the longest sequence of a batch."""


def check_architecture(settings: ModelSettings, config: Any) -> None:
    """Refuse a model that the engine or the learner would compute wrongly; ``config`` is its configuration.

    Raises:
        InputError: names the family and what is not supported.
    """
    if errors := [f"model.name={settings.name}: {error}" for error in _errors(settings, config)]:
        raise InputError(*errors)


def _errors(settings: ModelSettings, config: Any) -> Iterator[str]:
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    family = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if other := sorted(kinds - ATTENTION):
        yield (
            f"{text.model_type} has {', '.join(other)} layers, which are not supported; valid: models of attention "
            "layers only"
        )
    elif getattr(family, "_is_stateful", False):
        yield f"{text.model_type} keeps a recurrent state, which is not supported; valid: models of attention layers"
    if text.model_type in ALIBI or getattr(text, "alibi", False):
        yield f"{text.model_type} encodes positions with ALiBi, which is not supported; valid: rotary or learned ones"
    window = attention_window(config)
    if window is not None and window < settings.context:
        yield (
            f"its attention looks back {window} tokens, fewer than model.context={settings.context}; set "
            f"model.context to at most {window}"
        )
    for kind, original in _ropes(text):
        if kind in LENGTH_DEPENDENT and original < settings.context:
            yield (
                f"its rotary embedding ({kind}) changes with the length of the batch beyond {original} tokens; set "
                f"model.context={settings.context} to at most {original}"
            )


def attention_window(config: Any) -> int | None:
    """Tokens that the local layers of a model look back, or None if all layers see the whole sequence."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    if kinds and not kinds - {"full_attention"}:
        return None
    if "local" in (getattr(text, "attention_layers", None) or ()):  # GPT-Neo
        return int(text.window_size)
    window = getattr(text, "sliding_window", None)
    return int(window) if window else None


def _ropes(text: Any) -> Iterator[tuple[str, int]]:
    """The types of rotary embedding in a model, each with the length in tokens that it was trained for."""
    parameters = getattr(text, "rope_parameters", None) or {}
    for one in [parameters] if "rope_type" in parameters else parameters.values():
        if isinstance(one, dict) and "rope_type" in one:
            original = one.get("original_max_position_embeddings")
            yield (
                one["rope_type"],
                original or getattr(text, "original_max_position_embeddings", None) or (text.max_position_embeddings),
            )


def check_vocabulary(settings: ModelSettings, config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that encodes ordinary text to ids for which the model has no embedding.

    Special tokens beyond the embedding are allowed (Gemma 3 has one for images): text never becomes a special token.

    Raises:
        InputError: names an example and both sizes.
    """
    rows = config.get_text_config().vocab_size
    if len(tokenizer) <= rows:
        return
    added = tokenizer.added_tokens_decoder
    beyond = [token for token in range(rows, len(tokenizer)) if not (token in added and added[token].special)]
    if beyond:
        raise InputError(
            f"model.name={settings.name}: its tokenizer has {len(tokenizer)} tokens, but the model has embeddings for "
            f"{rows} only (e.g. none for {tokenizer.convert_ids_to_tokens(beyond[0])!r}); resize the embeddings "
            "(model.resize_token_embeddings) and save the checkpoint again"
        )
