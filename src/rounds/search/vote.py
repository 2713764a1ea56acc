"""Search by majority vote (self-consistency, arXiv 2203.11171)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from src.rounds.base import Search
from src.rounds.search.base import ranked
from src.types import Path, Turn


class Vote(Search):
    """Ranks candidates by the number of votes for their stated answer, or for their progress if they state none."""

    probes: ClassVar[bool] = False

    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        return ranked(pool)
