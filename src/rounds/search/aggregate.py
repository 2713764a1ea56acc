"""Population search: every candidate of a round reads several candidates of the round before; a vote decides.

RSA (Recursive Self-Aggregation, arXiv 2509.26626), PaCoRe (2601.05593) and Markovian RSA (2605.05365) differ in what a
prompt quotes: the whole text (``rounds/carry=memory``), the answer (``answer``), or the end of the text (``tail``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from src.rounds.base import Quoting, Search
from src.rounds.carry.none import Nothing
from src.rounds.search.base import ranked
from src.rounds.sets import balanced, longest, ordered, reader, unread
from src.settings import RunSettings
from src.types import Codec, Path, Problem, Turn


class Aggregate(Search):
    """Each round has ``candidates`` candidates. From the second on, each reads ``sources`` of the round before.

    The sets are drawn without replacement, every candidate into equally many of them. After the last round, the first
    candidate with the most common answer is accepted. One source continues a chain, so ``sources=1`` is a vote over
    independent chains. With several sources, all rounds take place, whatever the candidates say.
    """

    probes: ClassVar[bool] = False
    prunes: ClassVar[bool] = False
    candidates: int = 16
    keep: int = Field(1, ge=1, le=1)  # answers that are accepted
    sources: int = Field(4, ge=1)  # candidates that a prompt quotes
    together: str | None = None  # user message of later rounds; null: that of the prompts
    draft: str = "{progress}"  # format of each candidate in the prompt

    def check(self) -> Iterable[str]:
        yield from super().check()
        if self.sources > self.candidates:
            yield (
                f"rounds.search.sources={self.sources} cannot be drawn from "
                f"rounds.search.candidates={self.candidates} without replacement; lower the first or raise the second"
            )
        yield from unread("rounds.search", [("together", self.together), ("draft", self.draft)])

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.reward is not None:
            yield (
                "rounds/search=aggregate answers without training: candidates that nothing is compared with cannot "
                "learn. Train with rounds=aggregation, and search at evaluation (src.evaluate run=… "
                "rounds/search=aggregate)"
            )

    def rank(self, pool: Sequence[Turn], probed: Mapping[Path, Sequence[Turn]]) -> list[int]:
        return ranked(pool)

    def unreadable(self, strategy: Quoting, ending: str) -> Iterable[str]:
        """An error message for each setting of the strategy under which its prompts cannot quote several candidates."""
        if self.sources * strategy.progress_tokens >= strategy.context > strategy.progress_tokens:
            yield (
                f"rounds.search.sources={self.sources} candidates of rounds.progress_tokens={strategy.progress_tokens} "
                f"fill the whole context of {strategy.context} (model.context) and leave no room for a completion; "
                "lower one of the first two or raise the third"
            )
        if isinstance(strategy.carry, Nothing):
            yield (
                f"rounds/carry=none quotes nothing, but each prompt reads rounds.search.sources={self.sources} "
                "candidates; use rounds/carry=memory (whole texts), answer or tail"
            )
        if ending != "fixed":
            yield (
                f"rounds.ending={ending} ends single chains, but candidates that read "
                f"rounds.search.sources={self.sources} others take all rounds; use rounds.ending=fixed"
            )

    def readers(self, strategy: Quoting, problem: Problem, pool: Sequence[Turn], codec: Codec) -> list[Turn]:
        """The candidates of the next round, each with the prompt that quotes its sources."""
        return [
            reader(strategy, problem, place, members, self, codec) for place, members in enumerate(self._sets(pool))
        ]

    def longest(self, strategy: Quoting, problem: Problem, codec: Codec) -> tuple[int, str]:
        """The most tokens that a prompt with several candidates takes, and what it is."""
        needed = longest(strategy, problem, self.sources, self, codec)
        return needed, (
            f"a prompt with rounds.search.sources={self.sources} candidates of "
            f"rounds.progress_tokens={strategy.progress_tokens}"
        )

    def _sets(self, pool: Sequence[Turn]) -> list[list[Turn]]:
        """The turns that each prompt of the next round quotes, in the order of the prompt.

        Where turns failed, the population shrinks to those that are left.
        """
        by_path = {turn.path: turn for turn in sorted(pool, key=lambda turn: turn.path)}
        draw = next(iter(by_path.values())).stream
        size = min(self.sources, len(by_path))
        return [
            [by_path[path] for path in ordered(members, place, draw)]
            for place, members in enumerate(balanced(list(by_path), len(by_path), size, draw))
        ]
