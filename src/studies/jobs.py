"""The jobs of a study: command lines, with the directories that the hash of what decides them names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from src import config as configuration
from src.evaluation.results import digest
from src.models.settings import location
from src.studies.settings import BASE, FurtherEvaluation, Study
from src.types import InputError
from src.utils.checkpoints import checksum

SHORT = 16
"""Characters of a hash that name a directory."""

STARTING = ("model.name", "model.revision", "model.adapter", "model.template")
"""Settings of the policy before training that no evaluation records as a part of its protocol."""

Start = Mapping[str, Any]
"""The values of ``STARTING``."""


@dataclass(frozen=True)
class Job:
    """One command of a study. It is done if ``done`` exists, which is written last.

    ``run`` names the run of the study, ``kind`` the command; ``group`` is the same for all seeds.
    """

    kind: str  # train, warmup or evaluate
    run: str
    seed: int
    overrides: tuple[str, ...]
    directory: Path
    done: Path
    evaluation: str = ""  # name of a further evaluation

    @property
    def complete(self) -> bool:
        """Whether the job has been done, for this study or another one."""
        return self.done.is_file()

    @property
    def label(self) -> str:
        """The job in words."""
        what = {"train": "train", "warmup": "warm up", "evaluate": f"evaluate {self.evaluation} of"}[self.kind]
        return f"{what} {self.run}, seed {self.seed}"

    @property
    def group(self) -> tuple[str, str, str]:
        """Equal for jobs that differ in their seed only."""
        return self.kind, self.run, self.evaluation

    @property
    def command(self) -> list[str]:
        """Arguments of the module ``src.<kind>``."""
        given = [*configuration.folder_flags(), *self.overrides]
        if self.kind == "evaluate":
            place = [] if self.run != BASE else [f"hydra.run.dir={self.directory}"]
            return [*given, *place, f"out={self.done}"]
        tracking = ["tracking=none"] if self.kind == "train" else []
        return [*given, *tracking, f"hydra.run.dir={self.directory}"]


def planned(study: Study, root: Path) -> list[Job]:
    """All jobs of a study in the order in which they run: seed by seed, so that a study that stops early is balanced.

    Raises:
        InputError: the settings of some jobs are invalid; all mistakes are listed.
    """
    jobs, errors = composed(study, root)
    if errors:
        raise InputError(*errors)
    return jobs


def composed(study: Study, root: Path) -> tuple[list[Job], list[str]]:
    """All jobs of a study, and the mistakes in their settings. An adapter that a warm-up will write is none."""
    errors: list[str] = []
    starts: dict[str, Start] = {}
    warm, trained = dict[str, list[Job]](), dict[str, list[Job]]()
    for kind, named, found in (("warmup", study.warmups, warm), ("train", study.runs, trained)):
        for name, overrides in named.items():
            own = overrides if kind == "warmup" else [*study.common, *overrides]
            found[name] = _jobs(kind, name, study.seeds, own, root, warm, errors, starts)
    further = [
        jobs
        for name, evaluation in study.evaluations.items()
        for jobs in _evaluations(study, name, evaluation, warm, trained, root, errors, starts)
    ]
    errors += _equal_runs(trained)
    kinds = [jobs for jobs in (*warm.values(), *trained.values(), *further) if jobs]
    jobs = [jobs[number] for number in range(len(study.seeds)) for jobs in kinds]
    return jobs, list(dict.fromkeys(errors))


def _equal_runs(trained: Mapping[str, Sequence[Job]]) -> Iterator[str]:
    """A message for each run whose settings, and so whose directory, are those of an earlier run of the study."""
    named: dict[Path, str] = {}
    for name, jobs in trained.items():
        for job in jobs[:1]:
            if (first := named.setdefault(job.directory, name)) != name:
                yield f"study.runs: {first} and {name} have equal settings, so they are one run; drop one of them"


def _jobs(
    kind: str,
    name: str,
    seeds: Sequence[int],
    overrides: Sequence[str],
    root: Path,
    warm: dict[str, list[Job]],
    errors: list[str],
    starts: dict[str, Start],
) -> list[Job]:
    """The jobs of one command, one per seed; ``@<name>`` stands for the warm-up of the same seed. Empty after mistakes,
    which are added to ``errors``. ``starts`` gets the model that the first of the jobs starts from."""
    jobs = []
    filled = [
        _filled(overrides, {one: same[number] for one, same in warm.items() if same}) for number in range(len(seeds))
    ]
    known: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    named = {str(job.directory): job.directory.name for same in warm.values() for job in same}
    wrong: dict[tuple[str, ...], list[str]] = {}
    for seed, own in zip(seeds, filled, strict=True):
        if own not in known:  # warm-ups of several seeds make several commands
            asked = [seed for seed, other in zip(seeds, filled, strict=True) if other == own]
            try:
                known[own], wrong[own] = configuration.deciding(kind, own, asked)
            except InputError as error:
                errors += error.problems
                return []
        starts.setdefault(name, {key: known[own][0].get(key) for key in STARTING})
        folder = root / ("evaluations" if kind == "evaluate" else "runs") / _identity(kind, known[own].pop(0), named)
        done = folder / ("results.json" if kind == "evaluate" else "summary.json")
        jobs.append(Job(kind, name, seed, (*own, f"seed={seed}"), folder, done))
    for own, problems in wrong.items():
        needed = any(not job.complete for job in jobs if job.overrides[:-1] == own)
        errors += _mistakes(problems, [job for same in warm.values() for job in same], needed)
    return jobs


def _mistakes(problems: Sequence[str], warm: Sequence[Job], needed: bool) -> Iterator[str]:
    """Mistakes in settings, without adapters of warm-ups that are still to be trained or that no missing job needs."""
    for problem in problems:
        warmup = next((job for job in warm if str(job.directory) in problem), None)
        if warmup is None:
            yield problem
        elif warmup.complete and needed:
            yield f"{problem}. To train this warm-up again, remove {warmup.directory}"


def _identity(kind: str, decided: dict[str, Any], named: dict[str, str]) -> str:
    """The hash that names the directory of a command: of its settings, and of an embedded checkpoint's content.

    A warm-up counts by the name of its directory (``named``), wherever it is.
    """
    decided = {key: named.get(value, value) if isinstance(value, str) else value for key, value in decided.items()}
    name = str(decided["model.name"])
    weights = _checksums(location(name)) if name.startswith("embedded:") else []
    return digest([kind, decided, weights])[:SHORT]


@lru_cache(maxsize=4)
def _checksums(folder: str) -> list[str]:
    return [checksum(file) for file in sorted(Path(folder).glob("*.safetensors"))]


def _evaluations(
    study: Study,
    name: str,
    evaluation: FurtherEvaluation,
    warm: dict[str, list[Job]],
    trained: dict[str, list[Job]],
    root: Path,
    errors: list[str],
    starts: Mapping[str, Start],
) -> Iterator[list[Job]]:
    """The jobs of one further evaluation: for each run, one per seed."""
    own = tuple(evaluation.overrides)
    place = Path("evaluation") / "asked" / f"{digest(own)[:SHORT]}.json"
    for run, jobs in trained.items():
        if evaluation.of is None or run in evaluation.of:
            yield [
                replace(job, kind="evaluate", overrides=(f"run={job.directory}", *own), evaluation=name)
                for job in (replace(one, done=one.directory / place) for one in jobs)
            ]
    if BASE in (evaluation.of or ()):
        base: dict[str, Start] = {}
        jobs = _jobs("evaluate", BASE, study.seeds, [*_of_base(study), *own], root, warm, errors, base)
        if jobs:
            given = [one.lstrip("+").partition("=")[0] for one in own]
            errors += _other_starts(name, base[BASE], {run: starts[run] for run in trained if run in starts}, given)
        yield [replace(job, evaluation=name) for job in jobs]


def _of_base(study: Study) -> list[str]:
    """The overrides of ``common`` for the evaluation of the policy before training.

    ``src.evaluate`` has no experiments; the settings that they choose are set one by one.
    """
    chosen = [one for one in study.common if one.startswith(WHOLE)]
    shared = [one for one in study.common if not one.startswith(TRAINING)]
    if not chosen:
        return shared
    given = {one.partition("=")[0] for one in shared}
    over = configuration.carried_over("train", "evaluate", chosen, TRAINING)
    return [*(one for one in over if one.partition("=")[0] not in given), *shared]


def _other_starts(name: str, base: Start, starts: Mapping[str, Start], given: Sequence[str]) -> Iterator[str]:
    """A message if the policy before training of an evaluation is not the one that all runs start from.

    Settings that the evaluation itself sets, ``given``, do not count.
    """
    differing: dict[str, list[str]] = {}
    for run, start in starts.items():
        names = [key for key in STARTING if start[key] != base[key] and key not in given]
        if names:
            differing.setdefault(", ".join(f"{key}={start[key]}" for key in names), []).append(run)
    if differing:
        others = "; ".join(f"{', '.join(runs)} ({settings})" for settings, runs in differing.items())
        yield (
            f"study.evaluations.{name}.of: {BASE} is the policy before training, the same for all runs, but these "
            f"start from another one: {others}. Name the model in study.common, or make a study for each model"
        )


WHOLE = ("experiment", "debug")
"""Groups of ``src.train`` whose options set values in any section."""

TRAINING = (
    *("train.", "optimizer", "algorithm", "reward", "credit", "checkpoint.", *WHOLE),
    *("evaluation.every", "evaluation.before", "evaluation.keep_best"),
)
"""Beginnings of overrides that ``src.evaluate`` does not have."""


def _filled(overrides: Sequence[str], warm: dict[str, Job]) -> tuple[str, ...]:
    """Overrides with the directories of warm-ups in place of ``@<name>``."""
    result = []
    for override in overrides:
        name, marked, warmup = override.partition("=@")
        result.append(f"{name}={warm[warmup].directory}" if marked and warmup in warm else override)
    return tuple(result)
