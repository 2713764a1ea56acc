"""Several strategies in one training step: each problem of the step is grown by one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from src.rounds.base import MOST_ROUNDS, Strategy
from src.rounds.counting import Count, averaged
from src.settings import RunSettings, Section
from src.types import Codec, Problem, Turn


@dataclass(frozen=True, slots=True)
class Assigned(Problem):
    """A problem of a training step, with the name of the part that grows its rollout."""

    part: str = ""


class Part(Section):
    """One strategy of a mixture, and its share of a step's problems relative to the other shares."""

    share: float = Field(1.0, ge=0)
    strategy: Strategy


class Mixture(Strategy):
    """Rollouts of several strategies side by side; ``evaluated`` names the one that answers at evaluation.

    Each part grows its share of the problems of every step. A rollout belongs to one part, so turns of different parts
    are never compared, and the loss is normalised over the rows of all parts. A part with share 0 is not trained, but
    can be evaluated.

    ``n``, ``responses``, ``trajectories`` and ``first_tokens`` are values that the parts of an option refer to.
    """

    n: int = Field(ge=1, le=MOST_ROUNDS)
    responses: int = Field(8, ge=1)
    trajectories: int = Field(1, ge=1)
    first_tokens: int = Field(1, ge=1)
    evaluated: str
    parts: Mapping[str, Part]

    def check(self) -> Iterable[str]:
        if self.evaluated not in self.parts:
            yield f"rounds.evaluated={self.evaluated} is no part of the mixture; valid: {', '.join(self.parts)}"
        if not any(part.share for part in self.parts.values()):
            yield "every share in rounds.parts is 0, so no part grows a problem; give at least one a share"
        if nested := [name for name, part in self.parts.items() if isinstance(part.strategy, Mixture)]:
            yield f"rounds.parts.{nested[0]} is a mixture itself; list its parts in rounds.parts"
        if self.search is not None:
            yield (
                "rounds/search searches with one strategy, and rounds is a mixture; choose the strategy, e.g. "
                "rounds=multi-round rounds.n=<n>"
            )

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.measuring is not None:
            yield "speed is measured for one strategy, and rounds is a mixture; choose one, e.g. rounds=3"
        if run.rounds is self and self.evaluated in self.parts:
            chosen = self.parts[self.evaluated].strategy
            yield from chosen.check_run(run.model_copy(update={"rounds": chosen}))
        if run.reward is None:
            return
        if run.train is not None and not all(count.is_integer() for count in self._counts(run.train.problems)):
            shares = ", ".join(f"rounds.parts.{name}.share={part.share:g}" for name, part in self.parts.items())
            yield (
                f"train.problems={run.train.problems} cannot be divided by {shares}; change one of them so that every "
                "part grows a whole number of problems"
            )
        for name, part in self.parts.items():
            if part.share:
                yield from (f"rounds.parts.{name}: {error}" for error in _untrainable(part.strategy, run))

    def _counts(self, problems: int) -> list[float]:
        """Problems of each part, rounded if they are whole up to floating point."""
        total = sum(part.share for part in self.parts.values()) or 1.0
        counts = [problems * part.share / total for part in self.parts.values()]
        return [round(count) * 1.0 if abs(count - round(count)) < 1e-9 else count for count in counts]

    def assigned(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems of a step with their parts: the first ones to the first part, and so on."""
        names = [
            name for name, count in zip(self.parts, self._counts(len(problems)), strict=True) for _ in range(int(count))
        ]
        return [
            Assigned(one.id, one.question, one.answer, one.metadata, part)
            for one, part in zip(problems, names, strict=True)
        ]

    def _of(self, problem: Problem) -> Strategy:
        """The strategy that grows a problem."""
        return self.parts[problem.part if isinstance(problem, Assigned) else self.evaluated].strategy

    @property
    def joins(self) -> bool:
        return self.parts[self.evaluated].strategy.joins

    @property
    def widths(self) -> tuple[int, ...]:
        """Nothing, since widths differ between parts; each part is checked on its own."""
        return ()

    @property
    def turns(self) -> tuple[Count, ...]:
        return averaged((share, strategy.turns) for share, strategy in self.shares)

    @property
    def shares(self) -> Sequence[tuple[float, Strategy]]:
        total = sum(part.share for part in self.parts.values()) or 1.0
        return [(part.share / total, part.strategy) for part in self.parts.values() if part.share]

    @property
    def ends_early(self) -> bool:
        return any(part.strategy.ends_early for part in self.parts.values())

    @property
    def samples(self) -> int:
        return self.parts[self.evaluated].strategy.samples

    def drafts(self, n: int) -> int:
        return self.parts[self.evaluated].strategy.drafts(n)

    @property
    def drafts_vote(self) -> bool:
        return self.parts[self.evaluated].strategy.drafts_vote

    def open(self, problem: Problem, codec: Codec) -> list[Turn]:
        return self._of(problem).open(problem, codec)

    def extend(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> list[Turn]:
        return self._of(problem).extend(problem, lineage, codec)

    def settle(self, problem: Problem, turns: Sequence[Turn], codec: Codec) -> tuple[list[Turn], list[Turn]]:
        return self._of(problem).settle(problem, turns, codec)

    def independent(self, n: int, samples: int, temperature: float, top_p: float) -> Strategy:
        """The evaluated part's strategy for evaluation."""
        return self.parts[self.evaluated].strategy.independent(n, samples, temperature, top_p)

    def check_problem(self, problem: Problem, codec: Codec) -> None:
        for name, part in self.parts.items():
            if part.share or name == self.evaluated:
                part.strategy.check_problem(problem, codec)


def _untrainable(strategy: Strategy, run: RunSettings) -> Iterable[str]:
    """Error messages for a part that cannot be trained as the others are, or with this credit rule and reward."""
    if strategy.continuation != "policy":
        yield (
            f"continuation={strategy.continuation} needs the initial weights, and a mixture samples all its parts from "
            "the policy; use continuation=policy"
        )
    if strategy.search is not None:
        yield "a search prunes what the other parts are trained on; drop the search, and search at evaluation"
    alone = run.model_copy(update={"rounds": strategy})
    for section in (run.credit, *(run.reward.terms.values())):
        if section is not None:
            yield from section.check_run(alone)
