"""Prompt templates of the rounds. Their texts are in conf/model/prompts/*.yaml; this module fills in the fields.

It also fits texts and prompts into their budgets of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from src.settings import Section
from src.types import Codec, InputError, Message, Problem, Sampling

_FIELD = re.compile(r"\{(question|progress|round|previous|rounds|number)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    r"""Fill in ``{question}``, ``{progress}`` …, in a single pass and no other braces (``\boxed{}`` stays as it is)."""
    return _FIELD.sub(lambda found: values.get(found[1], found[0]), template)


class Prompts(Section):
    """Templates with the fields ``{question} {progress} {round} {previous} {rounds}``.

    ``first`` is the prompt of round 1 and ``later`` that of every other round; ``final`` is appended in the last round.
    ``item`` formats each progress if several are carried.
    """

    first: str
    later: str
    final: str = ""
    item: str = "{progress}"
    system: str = ""

    def messages(self, question: str, progress: str | None, round: int, rounds: int) -> list[Message]:
        """The chat messages of a round's prompt. ``progress`` is ``None`` in round 1."""
        values = {
            "question": question,
            "progress": progress or "",
            "round": str(round),
            "previous": str(round - 1),
            "rounds": str(rounds),
        }
        template = self.first if progress is None else self.later
        content = fill(template, values) + (fill(self.final, values) if round == rounds else "")
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]


def bounded(sampling: Sampling, prompt: Sequence[int], context: int, problem: Problem, round: int) -> Sampling:
    """Limit the token budget of a turn to the context that its prompt leaves.

    Raises:
        InputError: the prompt fills the context.
    """
    room = min(sampling.max_new_tokens, context - len(prompt))
    if room < 1:
        raise InputError(
            f"problem {problem.id!r}, round {round}: the prompt takes {len(prompt)} tokens of a context of {context} "
            "(model.context) and leaves no room for a completion; raise model.context or shorten the question."
        )
    return replace(sampling, max_new_tokens=room)


def fitted(text: str, size: int, keep: Literal["head", "tail"], codec: Codec) -> tuple[str, bool]:
    """Truncate a text to at most ``size`` tokens, keeping its head or tail; returns it and whether it was truncated."""
    tokens = codec.encode(text)
    if len(tokens) <= size:
        return text, False
    left = size
    while True:  # text cut inside a character or a word can encode to more tokens than before
        text = codec.decode(tokens[len(tokens) - left :] if keep == "tail" else tokens[:left])
        if left == 0 or len(codec.encode(text)) <= size:
            return text, True
        left -= 1
