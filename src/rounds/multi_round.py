"""Think over n rounds, each a fresh context with the question and the progress so far (MOTIF, arXiv 2507.02851)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from src.protocol import boxed, progress
from src.records import Codec, InputError, Problem, Sampling, Turn, Writer
from src.rounds.base import Carry, Prompts


@dataclass(frozen=True)
class MultiRound:
    """n rounds, a branching per round, and token budgets.

    From each of ``responses`` first-round turns, ``trajectories`` of rounds 2..n are sampled; ``branching`` gives
    the number of children at every depth instead. A round may write ``first_tokens`` or ``later_tokens``, or what
    the ``context`` leaves after its prompt, if that is less. A carried progress over ``progress_tokens`` keeps its
    ``keep`` end and is marked as cut. ``continuation`` names who writes rounds 2..n.
    """

    n: int
    prompts: Prompts
    carry: Carry
    context: int
    first_tokens: int
    later_tokens: int
    progress_tokens: int
    responses: int = 8
    trajectories: int = 4
    branching: Sequence[int] | None = None
    keep: Literal["head", "tail"] = "tail"
    ending: Literal["fixed", "concludes"] = "fixed"
    continuation: Literal["policy", "base"] = "policy"
    temperature: float = 1.0
    top_p: float = 1.0
    later_temperature: float = 1.0
    later_top_p: float = 1.0
    stop_at_answer: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        """Children at each depth: ``(m, k, 1, … 1)`` unless ``branching`` says otherwise."""
        if self.branching is not None:
            return tuple(self.branching)
        return (self.responses, self.trajectories, *[1] * self.n)[: self.n]

    def independent(self, n: int, samples: int, temperature: float, top_p: float) -> MultiRound:
        """The same rounds for evaluation: ``samples`` separate chains of ``n`` rounds, all written by the policy."""
        return replace(
            self,
            n=n,
            branching=(samples, *[1] * (n - 1)),
            continuation="policy",
            temperature=temperature,
            later_temperature=temperature,
            top_p=top_p,
            later_top_p=top_p,
        )

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if self.n < 1:
            errors.append(f"rounds.n={self.n} must be 1 or more (rounds=1 is vanilla GRPO)")
        names = ("responses", "trajectories", "first_tokens", "later_tokens", "progress_tokens")
        errors += [
            f"rounds.{name}={getattr(self, name)} must be 1 or more" for name in names if getattr(self, name) < 1
        ]
        if self.branching is not None and (len(self.branching) != self.n or min(self.branching, default=0) < 1):
            errors.append(
                f"rounds.branching={list(self.branching)} must give the children of each of the {self.n} rounds, all 1+"
            )
        for name in ("temperature", "later_temperature"):
            if getattr(self, name) < 0:
                errors.append(f"rounds.{name}={getattr(self, name)} must be 0 (greedy) or more")
        for name in ("top_p", "later_top_p"):
            if not 0 < getattr(self, name) <= 1:
                errors.append(f"rounds.{name}={getattr(self, name)} must be in (0, 1]")
        return errors

    def open(self, problem: Problem, codec: Codec) -> list[Turn]:
        sampling = Sampling(self.first_tokens, self.temperature, self.top_p, self.stop_at_answer)
        return self._siblings(problem, (), None, False, sampling, Writer.POLICY, codec)

    def extend(self, problem: Problem, lineage: Sequence[Turn], codec: Codec) -> list[Turn]:
        last = lineage[-1]
        concluded = self.ending == "concludes" and boxed(progress(last.text)) is not None
        if last.final or concluded or not last.live:
            return []
        carried, cut = self._fit(self.carry.carry(lineage, self.prompts), codec)
        sampling = Sampling(self.later_tokens, self.later_temperature, self.later_top_p, self.stop_at_answer)
        return self._siblings(problem, last.path, carried, cut, sampling, Writer(self.continuation), codec)

    def check_problem(self, problem: Problem, codec: Codec) -> None:
        """Refuse a problem whose longest prompt would leave no room to write.

        Raises:
            InputError: names the problem, its length and the settings that bound it.
        """
        first = len(codec.chat(self.prompts.messages(problem.question, None, 1, self.n)))
        needed, where = first, "its first prompt"
        if self.n > 1:
            later = len(codec.chat(self.prompts.messages(problem.question, "", self.n, self.n))) + self.progress_tokens
            if later > needed:
                needed, where = later, f"a later prompt with rounds.progress_tokens={self.progress_tokens}"
        if needed >= self.context:
            raise InputError(
                f"problem {problem.id!r} is too long: {where} takes {needed} tokens of a context of {self.context} "
                f"(model.context), so nothing can be written. Shorten or drop the question"
                + (", lower rounds.progress_tokens," if self.n > 1 else "")
                + " or raise model.context."
            )

    def _fit(self, text: str, codec: Codec) -> tuple[str, bool]:
        """Cut a progress to its budget, keeping the stated end."""
        tokens = codec.encode(text)
        if len(tokens) <= self.progress_tokens:
            return text, False
        size = self.progress_tokens
        while True:  # what was cut inside a character or a word may take more tokens than it had
            text = codec.decode(tokens[len(tokens) - size :] if self.keep == "tail" else tokens[:size])
            if size == 0 or len(codec.encode(text)) <= self.progress_tokens:
                return text, True
            size -= 1

    def _siblings(
        self,
        problem: Problem,
        parent: tuple[int, ...],
        carried: str | None,
        cut: bool,
        sampling: Sampling,
        writer: Writer,
        codec: Codec,
    ) -> list[Turn]:
        """The children of ``parent``: one prompt, as many turns as the branching says."""
        number = len(parent) + 1
        prompt = codec.chat(self.prompts.messages(problem.question, carried, number, self.n))
        room = min(sampling.max_new_tokens, self.context - len(prompt))
        if room < 1:
            raise InputError(
                f"problem {problem.id!r}, round {number}: the prompt takes {len(prompt)} tokens of a context of "
                f"{self.context} (model.context) and leaves no room to write."
            )
        turn = Turn(
            path=(*parent, 0),
            prompt=prompt,
            sampling=replace(sampling, max_new_tokens=room),
            writer=writer,
            final=number == self.n,
            carried=carried or "",
            carried_cut=cut,
        )
        return [replace(turn, path=(*parent, index)) for index in range(self.widths[len(parent)])]
