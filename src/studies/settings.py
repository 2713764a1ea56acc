"""Settings of a study: what is run, what is compared, and when it ends; fixed before the first run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from src.settings import LARGEST_SEED, Section

BASE = "base"
"""Name of the policy before training, in the ``of`` of an evaluation."""


class FurtherEvaluation(Section):
    """An evaluation of finished runs with other settings: overrides of ``src.evaluate``.

    ``of`` names the runs, all if it is ``null``; ``base`` is the policy before training, with the settings of
    ``common`` that ``src.evaluate`` has.
    """

    overrides: Sequence[str]
    of: Sequence[str] | None = None


class Study(Section):
    """A study. ``runs`` maps each name to overrides of ``src.train``, after those of ``common``.

    Every run is trained once per seed. ``warmups`` maps names to overrides of ``src.warmup``; ``=@<name>`` in other
    overrides stands for the directory of that warm-up. ``comparisons`` are pairs of runs, [first, second]; the first
    may be ``base``, if an evaluation is of it. The ``stopping`` rule says when the study ends: after all its runs, or
    before the first run that starts when the jobs that the study itself has run took ``hours``, all together.
    """

    question: str = Field(min_length=1)
    runs: Mapping[str, Sequence[str]]
    common: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    warmups: Mapping[str, Sequence[str]] = Field(default_factory=dict)
    evaluations: Mapping[str, FurtherEvaluation] = Field(default_factory=dict)
    comparisons: Sequence[Sequence[str]] = ()
    hours: float | None = Field(None, gt=0)
    stopping: Literal["all runs", "hours"] = "all runs"

    def check(self) -> Iterable[str]:
        yield from self._names()
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            yield f"study.seeds={list(self.seeds)} must be different numbers, at least one"
        if any(not 0 <= seed <= LARGEST_SEED for seed in self.seeds):
            yield f"study.seeds={list(self.seeds)} must be 0 or more"
        if self.stopping == "hours" and self.hours is None:
            yield "study.stopping=hours needs study.hours, the time after which no run starts"
        for override in self.everything():
            name = override.partition("=")[0].lstrip("+~")
            if name in ("seed", "resume", "run", "out") or name.startswith(("hydra.", "tracking")):
                yield f"study: {override}: the study itself sets {name}; drop it"

    def _names(self) -> Iterator[str]:
        """Messages about names of runs, warm-ups and evaluations that do not exist."""
        if not self.runs:
            yield "study.runs is empty; name at least one run"
        if BASE in self.runs:
            yield f"study.runs.{BASE}: this name is that of the policy before training; use another"
        bases = {BASE} & {run for evaluation in self.evaluations.values() for run in evaluation.of or ()}
        seen: set[frozenset[str]] = set()
        for pair in self.comparisons:
            if len(pair) == 2 and pair[0] == pair[1]:
                yield f"study.comparisons: {list(pair)} compares {pair[0]} with itself; drop it"
            elif frozenset(pair) in seen:
                yield f"study.comparisons: {' and '.join(pair)} are compared twice; drop {list(pair)}"
            elif len(pair) != 2 or pair[0] not in {*self.runs, *bases} or pair[1] not in self.runs:
                yield (
                    f"study.comparisons: {list(pair)} must be two of the runs {', '.join(self.runs)}; the first may be "
                    f"{BASE}, if an evaluation is of it (study.evaluations.<name>.of=[{BASE}])"
                )
            seen.add(frozenset(pair))
        for name, evaluation in self.evaluations.items():
            for run in evaluation.of or ():
                if run != BASE and run not in self.runs:
                    yield f"study.evaluations.{name}.of: no run {run}; valid: {BASE}, {', '.join(self.runs)}"
            started = [run for run, own in self.runs.items() if any(one.startswith("model.adapter=") for one in own)]
            if BASE in (evaluation.of or ()) and started:
                yield (
                    f"study.evaluations.{name}.of: {BASE} is the policy before training, but {', '.join(started)} "
                    "start from adapters of their own; move model.adapter to study.common"
                )
        for override in self.everything():
            _, marked, warmup = override.partition("=@")
            if marked and warmup not in self.warmups:
                valid = ", ".join(self.warmups) or "none are planned"
                yield f"study: {override}: there is no warm-up {warmup}; valid: {valid}"

    def everything(self) -> Iterator[str]:
        """All overrides."""
        yield from self.common
        for part in (*self.runs.values(), *self.warmups.values()):
            yield from part
        for evaluation in self.evaluations.values():
            yield from evaluation.overrides


class StudyCommand(Section):
    """Settings of ``python -m src.study``."""

    study: Study | None = None
    root: str = "outputs/studies"
    at_once: int = Field(1, ge=1)
    estimate: bool = False
    device: str | None = None
    report: bool = False
    record: str | None = None

    def check(self) -> Iterable[str]:
        if self.device is not None and not self.estimate:
            yield f"device={self.device} is for estimates; add --estimate"
        asked = {"--estimate": self.estimate, "--report": self.report, "--record": self.record is not None}
        if len(flags := [flag for flag, given in asked.items() if given]) > 1:
            yield f"{' and '.join(flags)} exclude each other; give one of them (--record also writes the report)"
