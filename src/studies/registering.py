"""Pre-registration: the plan of a study is written before it runs anything; what is added later is marked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from src.studies.jobs import Job
from src.studies.settings import Study
from src.types import InputError
from src.utils.files import write_json

PLAN = "plan.json"

UNPLANNED = " (not planned)"
"""Mark of what a report has and the registered plan has not."""


@dataclass(frozen=True)
class Plan:
    """A registered plan: the study as it was then, and the changes since.

    ``before`` names the runs that were done by then, for other studies, so that their results could be known.
    """

    registered: str
    first: Mapping[str, Any]
    amendments: tuple[Mapping[str, Any], ...] = ()
    before: tuple[str, ...] = ()

    @property
    def latest(self) -> Mapping[str, Any]:
        """The study as it is now."""
        return self.amendments[-1]["study"] if self.amendments else self.first

    def compares(self, first: str, second: str) -> bool:
        """Whether the comparison of two runs was planned."""
        return any({first, second} == set(pair) for pair in self.first["comparisons"])

    def runs(self, name: str, study: Study) -> bool:
        """Whether a run was planned as it is in ``study``: its overrides, those of all runs, and its warm-ups."""
        planned, own = self.first["runs"].get(name), list(study.runs[name])
        if planned != own or self.first["common"] != list(study.common):
            return False
        warm = [override.partition("=@")[2] for override in (*own, *study.common) if "=@" in override]
        return all(self.first["warmups"].get(one) == list(study.warmups[one]) for one in warm)

    def evaluates(self, name: str, study: Study) -> bool:
        """Whether a further evaluation was planned as it is in ``study``, for the policies that it has there."""
        planned = self.first["evaluations"].get(name)
        now = study.described()["evaluations"][name]
        return bool(planned) and {**planned, "of": None} == {**now, "of": None} and _within(now["of"], planned["of"])

    def added_seeds(self, study: Study) -> list[int]:
        """The seeds of ``study`` that were not planned."""
        return [seed for seed in study.seeds if seed not in self.first["seeds"]]

    def changed(self) -> Iterator[str]:
        """The amendments in words."""
        before = self.first
        for amendment in self.amendments:
            after = amendment["study"]
            names = [key for key in after if after[key] != before.get(key)]
            yield f"{amendment['time']}: {', '.join(names)}"
            before = after


def _within(policies: Sequence[str] | None, planned: Sequence[str] | None) -> bool:
    return planned is None or (policies is not None and set(policies) <= set(planned))


PENDING = "not registered yet"
"""In place of the time of an amendment that only a report has seen: the next start registers it."""


def current(folder: Path, study: Study) -> Plan:
    """The registered plan; changes of the study's file since the last start are a pending amendment, not written.

    Raises:
        InputError: the file of the plan is damaged.
    """
    plan, described = read(folder), study.described()
    if plan.latest == described:
        return plan
    return replace(plan, amendments=(*plan.amendments, {"time": PENDING, "study": described}))


def registered(folder: Path, study: Study, jobs: Sequence[Job]) -> Plan:
    """Register the plan of a study in ``folder``, or add an amendment if the registered plan is another one.

    ``jobs`` are those of the study; the plan names the runs among them that are done already.

    Raises:
        InputError: the file of the plan is damaged.
    """
    file, now, described = folder / PLAN, datetime.now().isoformat(" ", "seconds"), study.described()
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = sorted({job.label for job in jobs if job.kind == "train" and job.complete})
        write_json(file, {"registered": now, "study": described, "amendments": [], "before": done})
    plan = read(folder)
    if plan.latest == described:
        return plan
    amendments = (*plan.amendments, {"time": now, "study": described})
    kept = {"registered": plan.registered, "study": plan.first, "before": list(plan.before)}
    write_json(file, {**kept, "amendments": list(amendments)})
    return replace(plan, amendments=amendments)


def read(folder: Path) -> Plan:
    """Read the registered plan of a study.

    Raises:
        InputError: its file is damaged.
    """
    file = folder / PLAN
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        before = tuple(found.get("before", ()))  # older plans do not say
        return Plan(found["registered"], found["study"], tuple(found["amendments"]), before)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: damaged: {error}. Restore it, or start the study in another root=<folder>"
        ) from error
