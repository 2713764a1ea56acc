"""A tokenizer and its chat template."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from src.types import InputError, Message

TODAY = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"
"""For chat templates that state the date: always the same one, or no run could be repeated."""


class TokenizerCodec:
    """A tokenizer and its chat template as a ``Codec``."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.size = len(tokenizer)
        self.template = tokenizer.get_chat_template()
        if "strftime_now" in self.template:
            self.template = TODAY + self.template

    def chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except TemplateError as error:
            raise InputError(
                f"the model's chat template refuses the prompt ({error}). Where it knows no system message, set "
                "model.prompts.system='' and put the instructions into model.prompts.first"
            ) from error
        return self.encode(str(text))

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
