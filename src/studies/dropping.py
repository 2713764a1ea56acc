"""What was taken out of the plan of a study: its finished jobs, which are still reported, and a list in words."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src import config as configuration
from src.studies.changes import dropped
from src.studies.jobs import Job, composed
from src.studies.registering import TAKEN_OUT, Plan, definition
from src.studies.settings import Study
from src.types import InputError


def taken_out(plan: Plan, study: Study, jobs: Sequence[Job], root: Path) -> list[Job]:
    """The finished jobs of earlier versions of the plan that are not among ``jobs``, those of ``study``.

    Runs and evaluations that ``study`` has changed or dropped get the names under which they are reported.
    """
    now, found = study.described(), list[Job]()
    known = {_identity(job, now) for job in jobs}
    for number, version in enumerate((plan.first, *(one["study"] for one in plan.amendments))):
        mark = TAKEN_OUT if number == 0 else f" (amendment {number}, taken out)"
        for job in _finished(version, root) if version != now else ():
            if (identity := _identity(job, version)) in known:
                continue
            known.add(identity)
            if definition(version, job.run) != definition(now, job.run):
                job = replace(job, run=job.run + mark)
            if job.evaluation and _overrides(version, job.evaluation) != _overrides(now, job.evaluation):
                job = replace(job, evaluation=job.evaluation + mark)
            found.append(job)
    return found


def _finished(version: Mapping[str, Any], root: Path) -> Iterator[Job]:
    """The finished runs and evaluations of a version of the plan; none if it is no longer valid."""
    try:
        jobs, _ = composed(configuration.build(version, Study), root)
    except InputError:
        return
    yield from (job for job in jobs if job.kind != "warmup" and job.complete)


def _identity(job: Job, version: Mapping[str, Any]) -> Hashable:
    return job.kind, job.run, job.seed, job.evaluation, job.done, json.dumps(definition(version, job.run))


def _overrides(version: Mapping[str, Any], name: str) -> Any:
    return version["evaluations"].get(name, {}).get("overrides")


def in_words(plan: Plan, study: Study, jobs: Sequence[Job]) -> Iterator[str]:
    """Lists of what was planned or added and then taken out, and whether its results are reported."""
    planned, added = dropped(plan, study)
    for title, parts in (("Planned, then taken out", planned), ("Added, then taken out", added)):
        if parts:
            yield f"**{title}:**\n\n" + "\n".join(f"- {words}{_reported(key, jobs)}" for key, words in parts.items())


def _reported(key: Hashable, jobs: Sequence[Job]) -> str:
    """Whether a dropped part of a plan has results; comparisons have a row, or a reason why they have none."""
    assert isinstance(key, tuple)
    kind, name, *policy = key
    if kind == "comparison":
        return ""
    if kind == "seed":
        has = any(job.seed == name and job.kind == "train" and job.complete for job in jobs)
    elif kind == "run":
        has = any(_was(name, job.run) and job.kind == "train" for job in jobs)
    else:
        has = any(
            (job.evaluation == name or _was(name, job.evaluation))
            and job.run.partition(" (")[0] == policy[0]
            and job.complete
            for job in jobs
        )
    return "; its finished jobs are reported" if has else "; without results here"


def _was(name: str, label: str) -> bool:
    """Whether a name in reports is that of something with this name that was taken out."""
    return label.startswith(f"{name} (") and label.endswith(TAKEN_OUT.removeprefix(" ("))
