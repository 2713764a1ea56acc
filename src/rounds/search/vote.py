"""Self-consistency (arXiv 2203.11171): the thought that most candidates came to goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from src.rounds.base import Search
from src.rounds.search.base import by_votes, thought
from src.types import Path, Turn


class Vote(Search):
    """A majority vote over progresses, and over final answers in the last round."""

    probes: ClassVar[bool] = False

    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        return by_votes([thought(turn) for turn in pool])
