"""Settings of evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from src.rounds.base import Strategy
from src.settings import Section
from src.verifiers.base import Verifier

if TYPE_CHECKING:
    from src.config.commands import RunSettings


class Evaluation(Section):
    """What is evaluated, and how answers are sampled; see conf/train.yaml."""

    rounds: Sequence[int]
    samples: int = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    limit: int | None = Field(None, ge=1)
    every: int = Field(0, ge=0)
    keep_best: bool = False
    before: bool = True
    also: Sequence[Verifier] = ()
    no_system: Sequence[str] = ()

    def check(self) -> Iterable[str]:
        if not self.rounds or min(self.rounds) < 1:
            yield f"evaluation.rounds={list(self.rounds)} must name numbers of rounds, all 1 or more"
        if self.temperature == 0 and self.samples > 1:
            yield (
                f"evaluation.temperature=0 is greedy, so evaluation.samples={self.samples} would all be equal; "
                "use evaluation.samples=1"
            )
        if self.keep_best and not self.every:
            yield (
                "evaluation.keep_best=true needs looks at the validation split, and evaluation.every=0 never looks; "
                "use e.g. evaluation.every=20"
            )

    def check_run(self, run: RunSettings) -> Iterable[str]:
        names = [run.verifier.name] if run.verifier is not None else []
        for judge in self.also:
            if judge.name in names:
                yield f"evaluation.also={judge.name}: the verifier {judge.name} is asked already"
            names.append(judge.name)
        if run.benchmark is None:
            return
        if self.every and run.train is not None and run.benchmark.validation_size == 0:
            yield (
                f"evaluation.every={self.every} looks at the validation split, and benchmark.validation_size=0 leaves "
                "none"
            )
        if unknown := sorted(set(self.no_system) - set(run.benchmark.tests)):
            yield (
                f"evaluation.no_system={unknown}: benchmark={run.benchmark.name} has no such test split; valid: "
                f"{', '.join(run.benchmark.tests)}"
            )

    def chains(self, strategy: Strategy, split: str, rounds: int) -> Strategy:
        """The strategy that answers a test split: separate chains of ``rounds`` rounds."""
        chains = strategy.independent(rounds, self.samples, self.temperature, self.top_p)
        if split not in self.no_system:
            return chains
        return chains.replace(prompts=chains.prompts.replace(system=""))
