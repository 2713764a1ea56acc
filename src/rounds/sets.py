"""Sets of turns that are read together: which turns each prompt quotes, in which order, and as which text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from src.rounds.growing import stream
from src.rounds.prompts import fill
from src.types import Path


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
