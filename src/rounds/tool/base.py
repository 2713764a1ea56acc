"""Abstract base class of a tool, which the model calls in the middle of a turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace

from pydantic import Field

from src.settings import Section
from src.types import Codec, Status, Turn


class Tool(Section, ABC):
    """A tool that is called by writing an input between ``opening`` and ``closing``.

    The result follows in the same turn, as ``result`` with its field ``{result}`` filled in; then the model goes on.
    Tokens of results are never trained on and never counted as generated, but they take room of the turn's token
    budget. After ``calls`` answered calls in a turn, further ones get no result.
    """

    opening: str = Field(min_length=1)
    closing: str = Field(min_length=1)
    result: str = "{result}"
    calls: int = Field(4, ge=1)

    def check(self) -> Iterable[str]:
        if "{result}" not in self.result:
            yield f"rounds.tool.result={self.result!r} must contain {{result}}, where the tool's result goes"

    @abstractmethod
    def run(self, text: str) -> str:
        """The result for the input ``text``, or an error message; never raises on a text of a model."""

    def joined(self, before: Turn | None, part: Turn, codec: Codec) -> tuple[Turn, Turn | None]:
        """Join a finished ``part`` of a turn to what was written ``before``; the result follows if the part calls.

        Returns the turn so far, and the open turn that writes on, or ``None`` if the turn ends here. The open turn has
        the turn so far in its prompt, so that no token is tokenized again.
        """
        whole = part if before is None else _appended(before, part)
        if part.status != Status.DONE or not part.sampling.stop or self.closing not in part.text:
            return whole, None
        call = part.text.partition(self.closing)[0]
        answered = _stretches(whole.mask)
        if self.opening in call:
            text = self.result.replace("{result}", self.run(call.rpartition(self.opening)[2]))
            tokens = codec.encode(text)
            answered += 1
        else:  # nothing was called, e.g. an equals sign where that is the closing tag
            text, tokens = "", ()
        room = whole.sampling.max_new_tokens - len(whole.completion) - len(tokens)
        if room < 1:
            return replace(whole, status=Status.TRUNCATED), None
        given = replace(part, completion=tokens, text=text, mask=(False,) * len(tokens))
        whole = _appended(whole, replace(given, logprobs=(0.0,) * len(tokens), model_logprobs=(0.0,) * len(tokens)))
        stop = self.closing if answered < self.calls else ""
        rest = replace(
            part,
            prompt=whole.prompt + whole.completion,
            sampling=replace(whole.sampling, max_new_tokens=room, stop=stop),
            status=Status.OPEN,
            completion=(),
            logprobs=(),
            model_logprobs=(),
            text="",
        )
        return whole, rest


def _appended(before: Turn, more: Turn) -> Turn:
    """``before`` with the completion of ``more`` at its end."""
    own = more.mask or (True,) * len(more.completion)
    return replace(
        before,
        status=more.status,
        completion=before.completion + more.completion,
        mask=(before.mask or (True,) * len(before.completion)) + own,
        logprobs=before.logprobs + more.logprobs if before.logprobs else (),  # some engines report none
        model_logprobs=before.model_logprobs + more.model_logprobs if before.model_logprobs else (),
        text=before.text + more.text,
    )


def _stretches(mask: tuple[bool, ...]) -> int:
    """Number of uninterrupted stretches of tokens that the environment wrote."""
    return sum(before and not now for before, now in zip((True, *mask), mask, strict=False))
