"""Sets of turns that are read together: which turns each prompt quotes, in which order, and as which text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from src.rounds.base import Quoting, TokenCarry
from src.rounds.growing import stream
from src.rounds.prompts import bounded, fill, fitted
from src.types import Codec, Path, Problem, Sampling, Turn, Writer


class Templates(Protocol):
    """How a prompt quotes several turns."""

    @property
    def together(self) -> str | None:
        """The user message; ``None``: that of the strategy's prompts."""

    @property
    def draft(self) -> str:
        """Format of each quoted turn."""


def balanced(drafts: Sequence[Path], sets: int, size: int, draw: int) -> list[list[Path]]:
    """Draw ``sets`` sets of ``size`` drafts without replacement, every draft in equally many sets.

    Each set takes the drafts that are needed in all remaining sets, and random ones of the others; so the last sets
    come out even. ``draw`` seeds the choice: the same number gives the same sets.

    Raises:
        ValueError: the drafts cannot be balanced.
    """
    if size > len(drafts) or sets * size % len(drafts):
        raise ValueError(f"{sets} sets of {size} cannot hold each of {len(drafts)} drafts equally often")
    needed = dict.fromkeys(drafts, sets * size // len(drafts))
    drawn = []
    for place in range(sets):
        ranked = sorted(
            (draft for draft in drafts if needed[draft]),
            key=lambda draft: (needed[draft] < sets - place, stream(draw, "set", place, draft)),
        )
        drawn.append(sorted(ranked[:size]))
        for draft in drawn[-1]:
            needed[draft] -= 1
    return drawn


def ordered(members: Sequence[Path], place: int, draw: int) -> list[Path]:
    """The random order in which the prompt number ``place`` quotes the members of its set."""
    return sorted(members, key=lambda path: stream(draw, "order", place, path))


def listed(texts: Sequence[str], template: str) -> str:
    """All texts of a prompt, one per line, each formatted with ``{progress}`` and ``{number}``."""
    return "\n".join(fill(template, {"progress": text, "number": str(number)}) for number, text in enumerate(texts, 1))


def unread(place: str, templates: Iterable[tuple[str, str | None]]) -> Iterable[str]:
    """An error message for each template of the section ``place`` that does not quote anything."""
    for name, template in templates:
        if template is not None and "{progress}" not in template:
            yield f"{place}.{name}={template!r} lacks {{progress}}, so that no draft would be read; add it"


def reader(
    strategy: Quoting, problem: Problem, place: int, members: Sequence[Turn], templates: Templates, codec: Codec
) -> Turn:
    """The first turn of prompt number ``place`` of its round, which quotes ``members`` in this order."""
    number = members[0].round + 1
    parts = [_handed_on(strategy, turn, codec) for turn in members]
    carried = listed([text for text, _ in parts], templates.draft)
    prompt = _ask(strategy, problem, number, carried, templates, codec)
    sampling = Sampling(
        strategy.later_tokens, strategy.later_temperature, strategy.later_top_p, strategy.stop_at_answer
    )
    return Turn(
        path=(place, *[0] * (number - 1)),
        prompt=prompt,
        sampling=bounded(sampling, prompt, strategy.context, problem, number),
        writer=Writer(strategy.continuation),
        final=number == strategy.n,
        carried=carried,
        carried_cut=any(cut for _, cut in parts),
        sources=tuple(turn.path for turn in members),
    )


def longest(strategy: Quoting, problem: Problem, sources: int, templates: Templates, codec: Codec) -> int:
    """The most tokens that a prompt with so many ``sources`` takes."""
    empty = listed([""] * sources, templates.draft)
    return len(_ask(strategy, problem, strategy.n, empty, templates, codec)) + sources * strategy.progress_tokens


def _ask(
    strategy: Quoting, problem: Problem, number: int, carried: str, templates: Templates, codec: Codec
) -> tuple[int, ...]:
    prompts = strategy.prompts if templates.together is None else strategy.prompts.replace(later=templates.together)
    return codec.chat(prompts.messages(problem.question, carried, number, strategy.n))


def _handed_on(strategy: Quoting, turn: Turn, codec: Codec) -> tuple[str, bool]:
    """The text that prompts quote of a turn, and whether it was truncated."""
    size = strategy.progress_tokens
    if not isinstance(strategy.carry, TokenCarry):
        return fitted(strategy.carry.carry([turn], strategy.prompts) or "", size, strategy.keep, codec)
    tokens = strategy.carry.resume([turn], size)
    text, cut = fitted(codec.decode(tokens), size, strategy.keep, codec)
    return text, cut or len(tokens) < len(turn.completion)
