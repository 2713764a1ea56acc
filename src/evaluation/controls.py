"""Controls of aggregation: what answers are worth if the drafts that they read are others, or in another order.

In a population search, the drafts are the candidates of the first round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from src.config import recorded
from src.engines.local.settings import Local
from src.rounds.base import Strategy
from src.rounds.growing import grow, stream
from src.settings import RunSettings, Section
from src.types import Codec, Engine, InputError, Problem, Rollout, Turn

Verdicts = Callable[[Sequence[tuple[Problem, Turn]]], list[float]]
"""Verdicts on the own answers of turns."""


class Control(Section):
    """What aggregations read at evaluation; conf/evaluate.yaml explains each field."""

    sources: Literal["as_written", "shuffled", "oracle_right", "oracle_wrong"] = "as_written"
    drafts: str | None = None

    @property
    def active(self) -> bool:
        """Whether anything differs from an evaluation without controls."""
        return self.sources != "as_written" or self.drafts is not None

    @property
    def oracle(self) -> bool:
        """Whether drafts are chosen by their verdicts."""
        return self.sources.startswith("oracle")

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if not self.active or run.rounds is None or run.evaluation is None:
            return
        given: dict[str, str] = {"control.sources": self.sources} if self.sources != "as_written" else {}
        given |= {"control.drafts": self.drafts} if self.drafts is not None else {}
        named = " ".join(f"{name}={value}" for name, value in given.items())
        if alone := [n for n in run.evaluation.rounds if not run.rounds.drafts(n)]:
            yield (
                f"{named} changes the drafts that an aggregation reads, but with these rounds and evaluation.rounds="
                f"{alone} no prompt quotes several drafts; use rounds=aggregation evaluation.rounds=[2] or "
                "rounds/search=aggregate"
            )
        if self.oracle and run.evaluation.floor is not None:
            yield (
                f"evaluation.floor={run.evaluation.floor} compares two verdicts on each answer, but control.sources="
                f"{self.sources} may find drafts for other problems the second time; drop one of them"
            )
        if self.drafts is not None:
            yield from _unreadable(Path(self.drafts), run)


def _unreadable(writer: Path, run: RunSettings) -> Iterable[str]:
    """An error message for each reason why the policy of the run ``writer`` cannot write drafts for this evaluation."""
    if run.engine is not None and not isinstance(run.engine, Local):
        yield (
            f"control.drafts={writer}: two models generate in this process, which only engine=local can; add "
            "engine=local"
        )
    try:
        other = recorded(writer).settings
    except InputError as error:
        yield from (f"control.drafts: {problem}" for problem in error.problems)
        return
    if run.benchmark is not None and other.benchmark.name != run.benchmark.name:
        yield (
            f"control.drafts={writer}: that run was trained on benchmark={other.benchmark.name}, and here it would "
            f"write drafts for benchmark={run.benchmark.name}; choose a run of the same benchmark"
        )
    if run.model is not None and other.model.name != run.model.name:
        from src.models.loading import load_codec  # heavy: only needed for two models

        try:
            here, there = (load_codec(model).tokenizer for model in (run.model, other.model))
        except InputError as error:
            yield from (f"control.drafts: {problem}" for problem in error.problems)
            return
        if here.get_vocab() != there.get_vocab():
            yield (
                f"control.drafts={writer}: its model.name={other.model.name} has another vocabulary than "
                f"model.name={run.model.name}, so it cannot read the same prompts; choose a run with the same tokenizer"
            )


@dataclass(frozen=True)
class Sources:
    """Chooses the drafts of every aggregation.

    ``writer`` is the engine that writes the drafts; ``weights`` are the hashes of its weights if they are not the
    evaluated ones.
    """

    control: Control
    writer: Engine
    weights: Mapping[str, str] | None = None

    @property
    def described(self) -> dict[str, Any]:
        """Everything that decides a result, for its key."""
        return {"sources": self.control.sources, "drafts": self.weights}

    @property
    def named(self) -> dict[str, Any]:
        """The settings, for a summary."""
        return {"sources": self.control.sources, "drafts": self.control.drafts}

    def check_covered(self, covered: int, problems: int, drafts: int) -> None:
        """Check that some problems are left.

        Raises:
            InputError: no problem has enough drafts of the wanted kind.
        """
        if not covered:
            raise InputError(
                f"control.sources={self.control.sources}: none of {problems} problems of a test split has {drafts} "
                "such drafts. Raise evaluation.samples, use fewer drafts, or leave the split out: "
                "'~benchmark.tests.<split>'"
            )

    def grow(
        self,
        engine: Engine,
        strategy: Strategy,
        problems: Sequence[Problem],
        codec: Codec,
        keys: Sequence[tuple[object, ...]],
        verdicts: Verdicts,
        interrupt: Callable[[], None] | None = None,
    ) -> tuple[list[list[list[Turn]]], list[list[Rollout] | None]]:
        """Grow one rollout for each problem and key.

        Returns the drafts as they were written, and the rollouts; both by problem, then by key. A problem with too few
        drafts of the wanted kind has no rollouts (``None``).
        """
        written = [grow(self.writer, strategy, problems, codec, key, depth=1, interrupt=interrupt) for key in keys]
        drafts = [[rollout.level(1) for rollout in rollouts] for rollouts in zip(*written, strict=True)]
        right = self._right(problems, drafts, verdicts)
        chosen = [
            self.chosen(own, kinds, stream(*keys[0], problem.id, "control"))
            for problem, own, kinds in zip(problems, drafts, right, strict=True)
        ]
        covered = [problem for problem, turns in zip(problems, chosen, strict=True) if turns is not None]
        given = [turns for turns in chosen if turns is not None]
        forests = [
            grow(engine, strategy, covered, codec, key, interrupt=interrupt, given=[turns[number] for turns in given])
            for number, key in enumerate(keys)
        ]
        grown = zip(*forests, strict=True)
        return drafts, [None if turns is None else list(next(grown)) for turns in chosen]

    def _right(
        self, problems: Sequence[Problem], drafts: Sequence[Sequence[Sequence[Turn]]], verdicts: Verdicts
    ) -> list[list[list[bool]]]:
        """Whether each draft is right; nothing is judged unless an oracle needs it."""
        if not self.control.oracle:
            return [[] for _ in problems]
        asked = [(one, turn) for one, own in zip(problems, drafts, strict=True) for turns in own for turn in turns]
        found = iter(verdicts(asked))
        return [[[next(found) >= 1 for _ in turns] for turns in own] for own in drafts]

    def chosen(
        self, written: Sequence[Sequence[Turn]], right: Sequence[Sequence[bool]], draw: int
    ) -> list[list[Turn]] | None:
        """The drafts that each sample of a problem reads; ``None`` if too few are of the wanted kind.

        ``shuffled`` changes the places of a sample's own drafts. An oracle draws from the drafts of all samples,
        without replacement within a sample. ``draw`` seeds the choice.
        """
        if self.control.sources == "as_written":
            return [list(turns) for turns in written]
        if self.control.sources == "shuffled":
            return [_placed(_drawn(turns, draw, number), turns) for number, turns in enumerate(written)]
        wanted = self.control.sources == "oracle_right"
        pool = [
            turn
            for turns, kinds in zip(written, right, strict=True)
            for turn, kind in zip(turns, kinds, strict=True)
            if turn.live and kind == wanted
        ]
        if len(pool) < max(map(len, written)):
            return None
        return [_placed(_drawn(pool, draw, number), turns) for number, turns in enumerate(written)]


def _drawn(turns: Sequence[Turn], draw: int, number: int) -> list[Turn]:
    """Turns in a random order."""
    order = sorted(range(len(turns)), key=lambda index: stream(draw, number, index))
    return [turns[index] for index in order]


def _placed(turns: Sequence[Turn], places: Sequence[Turn]) -> list[Turn]:
    """As many turns as there are places, with the addresses of the turns that were written there."""
    return [
        replace(turn, path=place.path, stream=place.stream, tree=place.tree)
        for turn, place in zip(turns, places, strict=False)
    ]
