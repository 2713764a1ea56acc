"""Record a study: copy what its report reads, and report it again from the copy, whatever the settings are by then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src import config as configuration
from src.reporting.runs import Group
from src.studies import further
from src.studies.comparing import comparisons
from src.studies.hours import HOURS
from src.studies.jobs import Job
from src.studies.registering import PLAN, Plan, read
from src.studies.reporting import groups_of, write_report
from src.studies.settings import Study
from src.types import InputError
from src.utils.files import write_json

JOBS = "jobs.json"
OF_A_RUN = ("summary.json", "metrics.jsonl", ".hydra/config.yaml", ".hydra/overrides.yaml")
HYDRA = ".hydra/hydra.yaml"
"""Hydra's settings, of which only the choices of options are copied: the rest are paths of one machine."""


def record(name: str, study: Study, jobs: Sequence[Job], folder: Path, target: Path) -> str:
    """Copy the plan and the results of a study's finished jobs from ``folder`` into ``target``, and report them there.

    Weights, rollouts and answers are not copied, so that the record is small.

    Raises:
        InputError: no job is done, or the file of the study has changed since the study was started.
    """
    if read(folder).latest != study.described():
        raise InputError(
            f"study={name}: its file has changed since it was last started, and the change is not registered; start "
            f"the study again (python -m src.study {name}), then record it"
        )
    if not any(job.complete for job in jobs):
        raise InputError(f"study={name}: no job is done; there is nothing to record")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / PLAN, target / PLAN)
    if (folder / HOURS).is_file():
        shutil.copyfile(folder / HOURS, target / HOURS)
    described = []
    for job in jobs:
        place, result = (path.relative_to(folder.parent) for path in (job.directory, job.done))
        named = {"kind": job.kind, "run": job.run, "seed": job.seed, "evaluation": job.evaluation}
        described.append({**named, "directory": str(place), "done": str(result)})
        if not job.complete:
            continue
        _copy(job.done, target / result)
        if job.kind == "train":
            for file in OF_A_RUN:
                _copy(job.directory / file, target / place / file)
            choices = {"hydra": {"runtime": {"choices": dict(configuration.load_choices(job.directory))}}}
            write_json(target / place / HYDRA, choices)  # JSON is YAML
    write_json(target / JOBS, {"study": name, "jobs": described})
    return rebuild(target)


@dataclass(frozen=True)
class Record:
    """A recorded study."""

    name: str
    study: Study
    plan: Plan
    jobs: Sequence[Job]

    def groups(self) -> list[Group]:
        """The recorded runs by name, in the order of the plan."""
        return groups_of(self.study, self.plan, self.jobs)

    def comparisons(self) -> str:
        """The tables of planned and of other comparisons."""
        return "\n\n".join(
            comparisons(self.study, self.plan, self.groups(), further.done(self.study, self.plan, self.jobs))
        )


def recorded(target: Path) -> Record:
    """Read a recorded study from its folder.

    Raises:
        InputError: the folder holds none.
    """
    if not (target / JOBS).is_file():
        raise InputError(f"{target}: no recorded study (it has no {JOBS}); record one with src.study --record")
    found = json.loads((target / JOBS).read_text(encoding="utf-8"))
    plan = read(target)
    jobs = [
        Job(**{**one, "overrides": (), "directory": target / one["directory"], "done": target / one["done"]})
        for one in found["jobs"]
    ]
    return Record(found["study"], configuration.build(plan.latest, Study), plan, jobs)


def rebuild(target: Path) -> str:
    """Write the report of a recorded study again. Returns a line that says what is there."""
    found = recorded(target)
    return write_report(found.name, found.study, found.plan, found.jobs, target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
