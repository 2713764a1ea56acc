"""The model's tokenizer and chat template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from src.types import InputError, Message

TODAY = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"
"""Fixed date for chat templates that contain the current one, so that runs are reproducible."""

SEAMS = tuple(map(chr, range(0xE000, 0xE010)))
"""Candidate separators (Unicode's private use area); one that does not occur in a text marks where it is split."""


class TokenizerCodec:
    """Encodes text to token ids and decodes it, without control-token injection.

    Text from a model or a data set that spells a control token (e.g. ``<|im_end|>``) is encoded as ordinary text. Only
    the chat template itself produces control tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.size = len(tokenizer)
        self.template = tokenizer.get_chat_template()
        if "strftime_now" in self.template:
            self.template = TODAY + self.template
        added = tokenizer.added_tokens_decoder.values()
        control = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        longest_first = sorted(filter(None, control), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        seam = _unused(message["content"] for message in messages)
        try:
            text = self.tokenizer.apply_chat_template(
                [{**message, "content": self._cut(message["content"], seam)} for message in messages],
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except TemplateError as error:
            raise InputError(
                f"the model's chat template refuses the prompt ({error}). If it does not support system messages, set "
                "model.prompts.system='' and put the instructions into model.prompts.first"
            ) from error
        return self._encode(str(text), seam)

    def encode(self, text: str) -> tuple[int, ...]:
        seam = _unused([text])
        return self._encode(self._cut(text, seam), seam)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _cut(self, text: str, seam: str) -> str:
        """Insert a separator after the first character of every spelled control token in ``text``."""
        if self._control is None:
            return text
        return self._control.sub(lambda match: match[0][:1] + seam + match[0][1:], text)

    def _encode(self, text: str, seam: str) -> tuple[int, ...]:
        """Encode the pieces of ``text`` between separators one by one, and concatenate their tokens."""
        pieces = (self.tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in text.split(seam))
        return tuple(token for piece in pieces for token in piece)


def _unused(texts: Iterable[str]) -> str:
    """A separator that occurs in none of the texts.

    Raises:
        InputError: the texts contain all of ``SEAMS``.
    """
    characters = set().union(*map(set, texts))
    seam = next((seam for seam in SEAMS if seam not in characters), None)
    if seam is None:
        raise InputError(
            "a prompt contains all 16 characters U+E000 to U+E00F (Unicode's private use area); remove at least one"
        )
    return seam
