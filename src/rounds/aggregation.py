"""Drafts that are read together: each prompt of the second round quotes a set of drafts (SPIRAL, arXiv 2606.23595)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic import Field

from src.rounds.base import MOST_ROUNDS, Quoting, TokenCarry
from src.rounds.carry.none import Nothing
from src.rounds.counting import Count
from src.rounds.prompts import bounded
from src.rounds.sets import balanced, longest, ordered, reader, unread
from src.settings import RunSettings
from src.types import Codec, InputError, Problem, Sampling, Turn


class Aggregation(Quoting):
    """Rollouts of two rounds: drafts, then aggregations of sets of drafts.

    ``responses`` drafts answer the question alone. When all are written, ``sets`` sets of ``sources`` drafts are drawn
    without replacement, every draft into equally many sets. Each set is one prompt, from which ``trajectories``
    aggregations are sampled. They have the path ``(set, number)``; their sources are the drafts, in prompt order.

    Sets and orders are drawn from the streams of the turns, and do not depend on the batch. Each draft takes at most
    ``progress_tokens`` of the prompt. ``n=1`` samples the drafts alone.
    """

    n: int = Field(2, ge=1, le=MOST_ROUNDS)
    sets: int = Field(4, ge=1)
    sources: int = Field(4, ge=1)
    rollouts: int = Field(1, ge=1)
    together: str | None = None
    draft: str = "{progress}"

    def check(self) -> Iterable[str]:
        if self.n > 2:
            yield f"rounds.n={self.n}: drafts and aggregations are two rounds; use rounds.n=2, or 1 for drafts alone"
        if self.sources > self.responses:
            yield (
                f"rounds.sources={self.sources} drafts cannot be drawn from rounds.responses={self.responses} without "
                "replacement; lower the first or raise the second"
            )
        elif self.sets * self.sources % self.responses:
            yield (
                f"rounds.sets={self.sets} sets of rounds.sources={self.sources} drafts cannot hold each of "
                f"rounds.responses={self.responses} drafts equally often; rounds.sets x rounds.sources must be a "
                "multiple of rounds.responses"
            )
        if self.sources * self.progress_tokens >= self.context:
            yield (
                f"rounds.sources={self.sources} drafts of rounds.progress_tokens={self.progress_tokens} fill the whole "
                f"context of {self.context} (model.context) and leave no room for a completion; lower one of the first "
                "two or raise the third"
            )
        if isinstance(self.carry, TokenCarry | Nothing):
            yield (
                "rounds.carry must give the text of a draft, to be quoted with others; use rounds/carry=answer or "
                "memory (the whole text)"
            )
        if self.search is not None:
            yield (
                "rounds/search works on rounds that continue each other, but rounds=aggregation has a plan of its own; "
                "add rounds=multi-round rounds.n=<n>, or drop the search"
            )
        yield from unread("rounds", [("together", self.together), ("draft", self.draft)])

    def check_run(self, run: RunSettings) -> Iterable[str]:
        yield from super().check_run(run)
        if run.imitation is not None:
            yield (
                "worked solutions are split into rounds that continue each other, but rounds=aggregation quotes "
                "several drafts; warm up with rounds=<n>"
            )
        if self.n > 1 and self.sources > 1:
            yield from self._needs_trees(run)
        if run.rounds is self and run.evaluation is not None and (long := [n for n in run.evaluation.rounds if n > 2]):
            yield (
                f"evaluation.rounds={list(run.evaluation.rounds)} asks for {long[0]} rounds, but drafts and "
                "aggregations are two; use 1 (drafts alone) and 2"
            )

    def _needs_trees(self, run: RunSettings) -> Iterable[str]:
        if run.algorithm is not None and getattr(run.algorithm, "aggregation", None) == "trajectory":
            yield (
                "algorithm.aggregation=trajectory averages over trajectories, which an aggregation of several drafts "
                f"(rounds.sources={self.sources}) does not have; use e.g. algorithm.aggregation=grpo"
            )
        if run.credit is not None and run.credit.across_rounds:
            yield (
                f"credit.{type(run.credit).__name__} compares a turn with the one that it quotes, but aggregations "
                f"quote rounds.sources={self.sources}; use credit=siblings or first"
            )

    @property
    def joins(self) -> bool:
        return self.n > 1

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.responses, self.trajectories)[: self.n]

    @property
    def turns(self) -> tuple[Count, ...]:
        return (Count(self.responses), Count(self.sets * self.trajectories))[: self.n]

    @property
    def ends_early(self) -> bool:
        return False

    @property
    def samples(self) -> int:
        """Independent samples per problem at evaluation: whole rollouts, or drafts if there are only these."""
        return self.rollouts if self.joins else self.responses

    def drafts(self, n: int) -> int:
        return self.sources if n > 1 and self.sources > 1 else 0

    @property
    def drafts_vote(self) -> bool:
        return self.drafts(self.n) > 0

    def independent(self, n: int, samples: int, temperature: float, top_p: float) -> Aggregation:
        """The strategy for evaluation. With two rounds, each answer aggregates one set of drafts of its own; with one
        round, each draft is an answer."""
        shape = {"responses": self.sources, "sets": 1, "rollouts": samples} if n > 1 else self._one_set(samples)
        return self.sampled(n, temperature, top_p, trajectories=1, **shape)

    def _one_set(self, drafts: int) -> dict[str, int]:
        return {"responses": drafts, "sets": drafts, "sources": 1, "rollouts": 1}

    def open(self, problem: Problem, codec: Codec) -> list[Turn]:
        prompt = codec.chat(self.prompts.messages(problem.question, None, 1, 1))
        sampling = Sampling(self.first_tokens, self.temperature, self.top_p, self.stop_at_answer)
        sampling = bounded(sampling, prompt, self.context, problem, 1)
        return [Turn((index,), prompt, sampling, final=self.n == 1) for index in range(self.responses)]

    def extend(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> list[Turn]:
        """Nothing: drafts are continued together, once all are written."""
        return []

    def settle(self, problem: Problem, turns: Sequence[Turn], codec: Codec) -> tuple[list[Turn], list[Turn]]:
        """The aggregations, once all drafts are written."""
        drafts = {turn.path: turn for turn in turns if turn.live}
        if self.n == 1 or any(turn.round > 1 for turn in turns):
            return [], []
        draw = turns[0].stream
        new = []
        for place, members in enumerate(balanced(sorted(drafts), self.sets, self.sources, draw)):
            order = ordered(members, place, draw)
            first = reader(self, problem, place, [drafts[path] for path in order], self, codec)
            new += [replace(first, path=(place, number)) for number in range(self.trajectories)]
        return [], new

    def check_problem(self, problem: Problem, codec: Codec) -> None:
        needed, where = len(codec.chat(self.prompts.messages(problem.question, None, 1, 1))), "its first prompt"
        if self.n > 1:
            later = longest(self, problem, self.sources, self, codec)
            if later > needed:
                needed = later
                where = (
                    f"a prompt with rounds.sources={self.sources} drafts of "
                    f"rounds.progress_tokens={self.progress_tokens}"
                )
        if needed >= self.context:
            raise InputError(
                f"problem {problem.id!r} is too long: {where} takes {needed} tokens of a context of {self.context} "
                "(model.context), so nothing can be written. Shorten or drop the question, lower rounds.sources or "
                "rounds.progress_tokens, or raise model.context."
            )
