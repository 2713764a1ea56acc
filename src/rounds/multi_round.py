"""Multi-round reasoning: each round's context is the question and the progress so far (MOTIF, arXiv 2507.02851)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from src.rounds.base import MOST_ROUNDS, Quoting, TokenCarry
from src.rounds.counting import Count, counted
from src.rounds.prompts import bounded, fitted
from src.rounds.search.aggregate import Aggregate
from src.settings import RunSettings
from src.types import Codec, InputError, Path, Problem, Sampling, Status, Turn, Writer
from src.verifiers.tags import boxed, progress


class MultiRound(Quoting):
    """Rollouts of n rounds with a branching factor and a token budget for each round.

    Each of ``responses`` first-round turns gets ``trajectories`` continuations over rounds 2..n. ``branching`` instead
    sets the number of children at every depth. ``probes`` extra chains run to the end from the question and from every
    turn before the last round; they only estimate the value of the state that they start from. With a ``search``, each
    round generates candidates, and only the best of them are continued.

    ``continuation`` selects the weights that sample rounds 2..n in training.
    """

    n: int = Field(ge=1, le=MOST_ROUNDS)
    probes: int = Field(0, ge=0)
    branching: Sequence[int] | None = None
    ending: Literal["fixed", "concludes"] = "fixed"

    def check(self) -> Iterable[str]:
        if self.branching is not None and (len(self.branching) != self.n or min(self.branching) < 1):
            yield (
                f"rounds.branching={list(self.branching)} must be {self.n} numbers of children, one for each round, "
                "all 1 or more"
            )
        if self.ending == "concludes" and isinstance(self.carry, TokenCarry):
            yield (
                "rounds.ending=concludes looks for an answer in every round, but with rounds/carry=tail all rounds "
                "continue one message; use rounds.ending=fixed"
            )
        if self.search is not None and self.search.probes and self.probes < 1:
            yield (
                f"rounds/search=value estimates the value of candidates from probes, but rounds.probes={self.probes}; "
                "use 1 or more"
            )
        if self.n != 1 and self.progress_tokens >= self.context:
            yield (
                f"rounds.progress_tokens={self.progress_tokens} fills the whole context of {self.context} "
                "(model.context) and leaves no room for a completion; lower the first or raise the second"
            )
        if (population := self._population) is not None and self.n != 1:
            yield from population.unreadable(self, self.ending)

    @property
    def _population(self) -> Aggregate | None:
        """The search, if its prompts quote several candidates."""
        return self.search if isinstance(self.search, Aggregate) and self.search.sources > 1 else None

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if run.reward is None:
            return
        if self.search is not None and self.search.prunes and self.n != 1 and self.probes < 1:
            yield (
                "rounds.search also prunes candidates in training, and without probes a pruned candidate has no value "
                "estimate; use rounds.probes=1 or more, or search only at evaluation (src.evaluate rounds/search=…)"
            )
        yield from super().check_run(run)

    @property
    def widths(self) -> tuple[int, ...]:
        """Children at each depth: ``(m, k, 1, … 1)`` unless ``branching`` or a ``search`` says otherwise."""
        if self.search is not None:
            return (self.search.candidates,) * self.n
        if self.branching is not None:
            return tuple(self.branching)
        return (self.responses, self.trajectories, *[1] * self.n)[: self.n]

    @property
    def turns(self) -> tuple[Count, ...]:
        """With a ``search``, the candidates of each round, and probes from every one that is not final."""
        if self.search is None:
            return super().turns
        continued = self.search.keep if self.search.prunes else 1
        levels = [self.search.candidates * (1 if number == 0 else continued) for number in range(self.n)]
        return counted(levels, [0, *(self.probes * candidates for candidates in levels)][: self.n])

    @property
    def ends_early(self) -> bool:
        return self.ending != "fixed" or isinstance(self.carry, TokenCarry)

    @property
    def samples(self) -> int:
        """Independent samples per problem at evaluation: first-round branches, or with a ``search`` whole trees."""
        return self.branching[0] if self.branching is not None else self.responses

    def drafts(self, n: int) -> int:
        return population.candidates if n > 1 and (population := self._population) is not None else 0

    def independent(self, n: int, samples: int, temperature: float, top_p: float) -> MultiRound:
        """The strategy for evaluation: ``samples`` independent chains of ``n`` rounds, or as many trees with a
        ``search``. The policy samples all rounds."""
        probes = self.probes if self.search is not None and self.search.prunes else 0
        return self.sampled(n, temperature, top_p, branching=(samples, *[1] * (n - 1)), probes=probes)

    def open(self, problem: Problem, codec: Codec) -> list[Turn]:
        sampling = Sampling(self.first_tokens, self.temperature, self.top_p, self.stop_at_answer)
        turn = self._turn(problem, (), None, sampling, Writer.POLICY, codec)
        return [*self._copies(turn, self.widths[0]), *([] if self.search is not None else self._probes(turn))]

    def extend(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> list[Turn]:
        last = lineage[-1]
        if not self._goes_on(last) or (self.search is not None and not self.probes):
            return []
        turn = self._next(problem, lineage, codec)
        if last.probe:
            return [replace(turn, probe=True)]
        return [*([] if self.search is not None else self._copies(turn, self.widths[last.round])), *self._probes(turn)]

    def settle(self, problem: Problem, turns: Sequence[Turn], codec: Codec) -> tuple[list[Turn], list[Turn]]:
        """One step of the search: the turns to prune, and the next candidates below the kept turns.

        The search ranks the live leaves of the graph (probes aside). It keeps the best ``keep`` (a population: all)
        while one of them can be continued, and otherwise the best one.
        """
        if self.search is None:
            return [], []
        by_path = {turn.path: turn for turn in turns}
        keep = self.search.keep if self.search.prunes else len(turns)
        continued = {source for turn in turns if not turn.probe for source in turn.quoted}
        pool = [turn for turn in turns if turn.live and not turn.probe and turn.path not in continued]
        ends = _last_probe_turns(turns)
        probed = {turn.path: [probe for probe in ends if probe.path[: turn.round] == turn.path] for turn in pool}
        ranked = [pool[index] for index in self.search.rank(pool, probed)] if pool else []
        unfinished = any(self._goes_on(turn) for turn in ranked[:keep])
        kept = ranked[: keep if unfinished else 1]
        kept_paths = {turn.path for turn in kept}
        for turn in reversed(turns):  # turns come after their sources
            if turn.path in kept_paths:
                kept_paths.update(turn.quoted)
        pruned = [turn for turn in turns if turn.live and not turn.probe and turn.path not in kept_paths]
        if self._population is not None:
            return pruned, self._population.readers(self, problem, kept, codec) if unfinished else []
        copies = self.search.candidates if self.search.prunes else 1
        lineages = [[by_path[turn.path[:length]] for length in range(1, turn.round + 1)] for turn in kept]
        new = [
            child
            for lineage in lineages
            if self._goes_on(lineage[-1])
            for child in self._copies(self._next(problem, lineage, codec), copies)
        ]
        return pruned, new

    def check_problem(self, problem: Problem, codec: Codec) -> None:
        """Check that the longest prompt of a problem leaves room for a completion.

        Raises:
            InputError: it fills the context. The message names the problem, its length and the settings.
        """
        first = len(self._ask(problem, 1, () if isinstance(self.carry, TokenCarry) else None, codec))
        needed, where = first, "its first prompt"
        if self.n > 1 and (population := self._population) is not None:
            needed, where = max((needed, where), population.longest(self, problem, codec))
        elif self.n > 1:
            later = first if isinstance(self.carry, TokenCarry) else len(self._ask(problem, self.n, "", codec))
            if later + self.progress_tokens > needed:
                needed = later + self.progress_tokens
                where = f"a later prompt with rounds.progress_tokens={self.progress_tokens}"
        if needed >= self.context:
            raise InputError(
                f"problem {problem.id!r} is too long: {where} takes {needed} tokens of a context of {self.context} "
                f"(model.context), so nothing can be written. Shorten or drop the question"
                + (", lower rounds.progress_tokens," if self.n > 1 else "")
                + " or raise model.context."
            )

    def _goes_on(self, turn: Turn) -> bool:
        """Whether a finished turn is continued by another round."""
        if turn.final or not turn.live:
            return False
        if self._population is not None:
            return True
        if isinstance(self.carry, TokenCarry):
            return turn.status == Status.TRUNCATED  # any other status: the model ended the message
        return self.ending == "fixed" or boxed(progress(turn.text)) is None

    def _next(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> Turn:
        """The turn after ``lineage``, with the path of the first sibling."""
        last = lineage[-1]
        sampling = Sampling(self.later_tokens, self.later_temperature, self.later_top_p, self.stop_at_answer)
        if isinstance(self.carry, TokenCarry):
            tokens = self.carry.resume(lineage, self.progress_tokens)
            turn = self._turn(problem, last.path, tokens, sampling, Writer(self.continuation), codec)
            cut = len(tokens) < sum(len(turn.completion) for turn in lineage)
            return replace(turn, opening=last.said, carried=codec.decode(tokens), carried_cut=cut)
        carried, cut = self.carry.carry(lineage, self.prompts), False
        if carried is not None:
            carried, cut = fitted(carried, self.progress_tokens, self.keep, codec)
        turn = self._turn(problem, last.path, carried, sampling, Writer(self.continuation), codec)
        return replace(turn, carried=carried or "", carried_cut=cut)

    def _turn(
        self,
        problem: Problem,
        parent: Path,
        carried: str | tuple[int, ...] | None,
        sampling: Sampling,
        writer: Writer,
        codec: Codec,
    ) -> Turn:
        """The first child of ``parent``; its token budget is limited to the context left by its prompt.

        Raises:
            InputError: the prompt fills the context.
        """
        number = len(parent) + 1
        if parent == () and isinstance(self.carry, TokenCarry):
            carried = ()
        prompt = self._ask(problem, number, carried, codec)
        budget = bounded(sampling, prompt, self.context, problem, number)
        return Turn(path=(*parent, 0), prompt=prompt, sampling=budget, writer=writer, final=number == self.n)

    def _ask(
        self, problem: Problem, number: int, carried: str | tuple[int, ...] | None, codec: Codec
    ) -> tuple[int, ...]:
        """Prompt tokens of round ``number``. With a ``TokenCarry`` it is a one-round prompt plus the carried tokens."""
        if isinstance(carried, tuple):
            return (*codec.chat(self.prompts.messages(problem.question, None, 1, 1)), *carried)
        return codec.chat(self.prompts.messages(problem.question, carried, number, self.n))

    def _copies(self, turn: Turn, count: int) -> list[Turn]:
        return [replace(turn, path=(*turn.family, index)) for index in range(count)]

    def _probes(self, turn: Turn) -> list[Turn]:
        """Probes of the state before ``turn``; their child indices come after those of its siblings."""
        start = self.widths[turn.round - 1]
        return [replace(turn, path=(*turn.family, start + index), probe=True) for index in range(self.probes)]


def _last_probe_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The last turn of each finished probe chain."""
    probes = [turn for turn in turns if turn.probe and turn.live]
    quoted = {source for probe in probes for source in probe.quoted}
    return [probe for probe in probes if probe.path not in quoted]
