"""Record a study: copy what its report reads, and report it again from the copy, whatever the settings are by then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src import config as configuration
from src.config.reading import load_choices
from src.studies.jobs import Job
from src.studies.registering import PLAN, registered
from src.studies.reporting import write_report
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
        InputError: no job is done.
    """
    done = [job for job in jobs if job.complete]
    if not done:
        raise InputError(f"study={name}: no job is done; there is nothing to record")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / PLAN, target / PLAN)
    described = []
    for job in jobs:
        place, result = (Path(*path.parts[-parts:]) for path, parts in _paths(job))
        described.append({**_named(job), "directory": str(place), "done": str(result)})
        if job.complete:
            _copy(job.done, target / result)
            for file in OF_A_RUN if job.kind == "train" else ():
                _copy(job.directory / file, target / place / file)
            if job.kind == "train":
                choices = {"hydra": {"runtime": {"choices": dict(load_choices(job.directory))}}}
                write_json(target / place / HYDRA, choices)  # JSON is YAML
    write_json(target / JOBS, {"study": name, "jobs": described})
    return rebuild(target)


def rebuild(target: Path) -> str:
    """Write the report of a recorded study again. Returns a line that says what is there."""
    found = json.loads((target / JOBS).read_text(encoding="utf-8"))
    latest = json.loads((target / PLAN).read_text(encoding="utf-8"))
    settings = latest["amendments"][-1]["study"] if latest["amendments"] else latest["study"]
    study = configuration.build(settings, Study)
    jobs = [_job(one, target) for one in found["jobs"]]
    return write_report(found["study"], study, registered(target, study), jobs, target)


def _paths(job: Job) -> tuple[tuple[Path, int], tuple[Path, int]]:
    """The directory and the file of results of a job, with the number of their last parts that the record keeps."""
    own = 2  # runs/<hash> or evaluations/<hash>
    return (job.directory, own), (job.done, own + len(job.done.relative_to(job.directory).parts))


def _named(job: Job) -> dict[str, Any]:
    return {"kind": job.kind, "run": job.run, "seed": job.seed, "evaluation": job.evaluation}


def _job(one: Mapping[str, Any], target: Path) -> Job:
    return Job(
        one["kind"], one["run"], one["seed"], (), target / one["directory"], target / one["done"], one["evaluation"]
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
