"""The tokenizer and its chat template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from src.types import InputError, Message

TODAY = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"
"""For chat templates that state the date: always the same one, or no run could be repeated."""

SEAMS = tuple(map(chr, range(0xE000, 0xE010)))
"""Characters of Unicode's private use area; one that a text does not hold marks where the text is cut."""


class TokenizerCodec:
    """Text to token ids and back.

    Text that a model or a data set wrote never becomes a control token: where it spells one (``<|im_end|>``), it is
    encoded as the ordinary text that it is. Only the chat template's own control tokens are control tokens.
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
                f"the model's chat template refuses the prompt ({error}). Where it knows no system message, set "
                "model.prompts.system='' and put the instructions into model.prompts.first"
            ) from error
        return self._encode(str(text), seam)

    def encode(self, text: str) -> tuple[int, ...]:
        seam = _unused([text])
        return self._encode(self._cut(text, seam), seam)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _cut(self, text: str, seam: str) -> str:
        """``text`` with a seam inside everything that spells a control token."""
        if self._control is None:
            return text
        return self._control.sub(lambda found: found[0][:1] + seam + found[0][1:], text)

    def _encode(self, text: str, seam: str) -> tuple[int, ...]:
        """The tokens of ``text``, encoded piece by piece between its seams."""
        pieces = (self.tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in text.split(seam))
        return tuple(token for piece in pieces for token in piece)


def _unused(texts: Iterable[str]) -> str:
    """A seam that no text holds.

    Raises:
        InputError: the texts hold all of them.
    """
    held = set().union(*map(set, texts))
    seam = next((seam for seam in SEAMS if seam not in held), None)
    if seam is None:
        raise InputError("a text holds 16 characters of Unicode's private use area (U+E000 to U+E00F); remove one")
    return seam
