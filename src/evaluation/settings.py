"""Settings of evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from src.benchmarks.base import Benchmark
from src.engines.base import EngineSettings
from src.evaluation.controls import Control
from src.models.settings import ModelSettings
from src.rounds.base import Strategy
from src.settings import RunSettings, Section
from src.verifiers.base import Verifier


class Evaluation(Section):
    """Settings of evaluation and of the sampling of answers; conf/train.yaml explains each field."""

    rounds: Sequence[int]
    samples: int = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    limit: int | None = Field(None, ge=1)
    every: int = Field(0, ge=0)
    at_start: bool = False
    keep_best: bool = False
    before: bool = True
    also: Sequence[Verifier] = ()
    no_system: Sequence[str] = ()
    floor: int | None = Field(None, ge=1, le=255)
    floor_engine: EngineSettings | None = None
    labelled: str | None = None

    def check(self) -> Iterable[str]:
        if not self.rounds or min(self.rounds) < 1:
            yield f"evaluation.rounds={list(self.rounds)} must be a nonempty list of numbers of rounds, each 1 or more"
        if self.temperature == 0 and self.samples > 1:
            yield (
                f"evaluation.temperature=0 is greedy, so evaluation.samples={self.samples} answers would be equal; "
                "use evaluation.samples=1"
            )
        for name, asked in (("keep_best", self.keep_best), ("at_start", self.at_start)):
            if asked and not self.every:
                yield (
                    f"evaluation.{name}=true needs validation accuracies, but evaluation.every=0 never validates; "
                    "use e.g. evaluation.every=20"
                )
        if self.floor_engine is not None and self.floor is None:
            yield (
                "evaluation.floor_engine answers again with another engine to measure the floor, but evaluation.floor="
                "null answers once; use e.g. evaluation.floor=16"
            )
        if self.labelled is not None and not Path(self.labelled).is_file():
            yield f"evaluation.labelled={self.labelled}: there is no such file; name one of labelled answers, or null"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        names = [run.verifier.name] if run.verifier is not None else []
        for judge in self.also:
            if judge.name in names:
                yield f"evaluation.also={judge.name}: the verifier {judge.name} is already in use; drop it"
            names.append(judge.name)
        yield from self._check_floor_engine(run)
        if run.benchmark is None:
            return
        if self.every and run.train is not None and run.benchmark.validation_size == 0:
            yield (
                f"evaluation.every={self.every} needs a validation split, but benchmark.validation_size=0 leaves none; "
                "use evaluation.every=0, or a larger benchmark.validation_size"
            )
        if unknown := sorted(set(self.no_system) - set(run.benchmark.tests)):
            yield (
                f"evaluation.no_system={unknown}: benchmark={run.benchmark.name} has no such test split; valid: "
                f"{', '.join(run.benchmark.tests)}"
            )

    def _check_floor_engine(self, run: RunSettings) -> Iterable[str]:
        """Without the same random numbers, verdicts on sampled answers would differ with equal engines, too."""
        other = self.floor_engine
        if other is None or (own := run.engine) is None:
            return
        if other.described() == own.described():
            yield "evaluation.floor_engine is the engine of the run; use another one, e.g. hf, or null"
        if self.temperature > 0 and own.random_numbers != other.random_numbers:
            yield (
                f"evaluation.floor_engine: {type(other).__name__} draws other random numbers than "
                f"{type(own).__name__}, so at evaluation.temperature={self.temperature:g} its answers differ by "
                "chance; use evaluation.temperature=0 evaluation.samples=1, or engines with the same random numbers, "
                "as local and hf"
            )
        if (control := getattr(run, "control", None)) is not None and control.active:
            yield (
                "evaluation.floor_engine: with control.sources or control.drafts, the drafts would still come from the "
                "first engine; drop one of them"
            )

    def chains(self, strategy: Strategy, split: str, rounds: int) -> Strategy:
        """Return the strategy that answers a test split: ``samples`` independent chains of ``rounds`` rounds."""
        chains = strategy.independent(rounds, self.samples, self.temperature, self.top_p)
        if split not in self.no_system:
            return chains
        return chains.replace(prompts=chains.prompts.replace(system=""))


class SamplingSections(RunSettings):
    """The typed sections of every command that samples answers to a benchmark and verifies them."""

    model: ModelSettings
    rounds: Strategy
    benchmark: Benchmark
    verifier: Verifier
    engine: EngineSettings


class EvaluateCommand(SamplingSections):
    """Settings of ``python -m src.evaluate``."""

    run: str | None = None
    checkpoint: str | int | None = None
    threads: int = Field(0, ge=0)
    out: str | None = None
    evaluation: Evaluation
    control: Control = Control()


class SolveCommand(RunSettings):
    """Settings of ``python -m src.solve``."""

    question: str | None = None
    run: str | None = None
    checkpoint: str | int | None = None
    threads: int = Field(0, ge=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    model: ModelSettings
    rounds: Strategy
    engine: EngineSettings
