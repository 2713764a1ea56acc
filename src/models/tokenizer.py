"""The model's tokenizer and chat template."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from itertools import chain

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from src.types import InputError, Message

logger = logging.getLogger(__name__)

TODAY = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"
"""Fixed date for chat templates that contain the current one, so that runs are reproducible."""

SEAMS = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
"""Candidate separators: Unicode's private use areas. One that does not occur in a text marks where it is split."""


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
        self.keeps_system = self._keeps_system()
        self.closing = self._closing()

    def chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        if not self.keeps_system and any(message["role"] == "system" for message in messages):
            raise InputError(
                "the model's chat template drops system messages; set model.prompts.system='' and put the instructions "
                "into model.prompts.first"
            )
        seam = _unused(message["content"] for message in messages)
        try:
            text = self._rendered([{**message, "content": self._cut(message["content"], seam)} for message in messages])
        except TemplateError as error:
            raise InputError(
                f"the model's chat template refuses the prompt ({error}). If it does not support system messages, set "
                "model.prompts.system='' and put the instructions into model.prompts.first"
            ) from error
        return self._encode(text, seam)

    def encode(self, text: str) -> tuple[int, ...]:
        seam = _unused([text])
        return self._encode(self._cut(text, seam), seam)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def ends(self, configured: int | Sequence[int] | None) -> list[int]:
        """The tokens that end a turn: the one of the chat template first, then those of the tokenizer and of the
        generation configuration (``configured``).

        Raises:
            InputError: there are none.
        """
        several = configured if isinstance(configured, Sequence) else [configured]
        named = [token for token in [self.tokenizer.eos_token_id, *several] if token is not None]
        if self.closing is None and not named:
            raise InputError(
                "no end-of-sequence token is known: neither the tokenizer nor the model's generation configuration nor "
                "the chat template names one; set eos_token in tokenizer_config.json"
            )
        if self.closing is None:
            return named
        if self.closing not in named:
            logger.warning(
                "the chat template ends messages with %s, which neither the tokenizer nor the generation configuration "
                "names as an end of sequence; it ends turns, too",
                self.tokenizer.convert_ids_to_tokens(self.closing),
            )
        return [self.closing, *named]

    def _keeps_system(self) -> bool:
        """Whether the template writes system messages (True as well if it refuses them, which ``chat`` reports)."""
        messages = [{"role": "system", "content": "Qa1"}, {"role": "user", "content": "Qb2"}]
        try:
            return "Qa1" in self._rendered(messages)
        except TemplateError:
            return True

    def _closing(self) -> int | None:
        """The control token with which the template ends an assistant's message, or None if it has none."""
        messages = [{"role": "user", "content": "Qa1"}, {"role": "assistant", "content": "Qb2"}]
        try:
            _, _, rest = self._rendered(messages, add_generation_prompt=False).rpartition("Qb2")
        except TemplateError:
            return None
        match = self._control.match(rest.lstrip()) if self._control is not None else None
        return None if match is None else int(self.tokenizer.convert_tokens_to_ids(match[0]))

    def _rendered(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        )

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
    seam = next((seam for seam in map(chr, chain(*SEAMS)) if seam not in characters), None)
    if seam is None:
        raise InputError("a prompt contains every character of Unicode's private use areas; remove at least one")
    return seam
