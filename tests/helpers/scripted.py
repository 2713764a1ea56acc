"""A codec and an engine without a model, for tests of rollouts and of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from src.types import Children, OnToken, Status, Turn


class Letters:
    """A codec with one token a character."""

    def chat(self, messages: Sequence[Any]) -> tuple[int, ...]:
        return self.encode("".join(message["content"] for message in messages))

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


class Scripted:
    """An engine that writes what ``script`` says; ``order`` picks the next of the waiting turns."""

    def __init__(self, script: Callable[[Turn], str], order: int = -1, status: Status = Status.DONE) -> None:
        self.script, self.order, self.status = script, order, status

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting, done = list(turns), []
        while waiting:
            turn = waiting.pop(self.order if waiting[1:] else 0)  # depth first, usually: the order must not matter
            text = self.script(turn)
            done.append(replace(turn, status=self.status, text=text, completion=tuple(map(ord, text))))
            waiting += children(done[-1])
        return done
