"""Prompt templates of the rounds. Their texts are in conf/model/prompts/*.yaml; this module fills in the fields."""

from __future__ import annotations

import re
from collections.abc import Mapping

from src.settings import Section
from src.types import Message

_FIELD = re.compile(r"\{(question|progress|round|previous|rounds)\}")


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
