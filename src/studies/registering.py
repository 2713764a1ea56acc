"""Pre-registration: the plan of a study is written before it runs anything; what is added later is marked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from src.studies.jobs import Job
from src.studies.settings import BASE, Study
from src.types import InputError
from src.utils.files import write_json

PLAN = "plan.json"

UNPLANNED = " (not planned)"
"""Mark of what a report has and the registered plan has not."""

TAKEN_OUT = " (taken out)"
"""Mark of what the registered plan has, and the study no longer."""


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

    @property
    def seeds(self) -> Sequence[int] | None:
        """The registered seeds."""
        found: Sequence[int] | None = self.first.get("seeds")
        return found

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The registered comparisons, each once."""
        pairs = {frozenset(pair): (pair[0], pair[1]) for pair in reversed(self.first["comparisons"])}
        return list(reversed(pairs.values()))

    def runs(self, name: str, study: Study) -> bool:
        """Whether a run was planned as it is in ``study``: its overrides, those of all runs, and its warm-ups.

        ``base``, the policy before training, is what the overrides of all runs make it.
        """
        now = definition(study.described(), name)
        return now is not None and definition(self.first, name) == now

    def named(self, name: str, study: Study) -> str:
        """The name in reports of a run of ``study``."""
        return name if self.runs(name, study) else name + UNPLANNED

    def registered_as(self, name: str, study: Study) -> str:
        """The name in reports of a run of the registered plan, which ``study`` may have changed or taken out."""
        return name if self.runs(name, study) else name + TAKEN_OUT

    def evaluates(self, name: str, study: Study) -> bool:
        """Whether a further evaluation was planned with the overrides that it has in ``study``."""
        planned = self.first.get("evaluations", {}).get(name)
        return planned is not None and planned["overrides"] == list(study.evaluations[name].overrides)

    def plans_evaluation(self, label: str, study: Study) -> bool:
        """Whether a further evaluation by its name in reports was planned, be it in ``study`` or taken out."""
        return self.evaluates(label, study) if label in study.evaluations else label.endswith(TAKEN_OUT)

    def asks_for(self, name: str, run: str) -> bool:
        """Whether the further evaluation of a run was planned."""
        planned = self.first.get("evaluations", {}).get(name)
        return planned is not None and run in (self.first["runs"] if planned["of"] is None else planned["of"])

    def added_seeds(self, study: Study) -> list[int]:
        """The seeds of ``study`` that were not planned."""
        return [seed for seed in study.seeds if self.seeds is not None and seed not in self.seeds]


def definition(described: Mapping[str, Any], name: str) -> Any:
    """What decides a run of a study, as plain data: its overrides, those of all runs, and its warm-ups.

    ``None`` if there is no such run.
    """
    runs, common, warmups = (described.get(key) or {} for key in ("runs", "common", "warmups"))
    if name != BASE and name not in runs:
        return None
    own, parts = list(runs.get(name, ())), dict[str, Any]()
    left = [*own, *common]
    while left:
        _, marked, warmup = left.pop().partition("=@")
        if marked and warmup in warmups and warmup not in parts:
            parts[warmup] = list(warmups[warmup])
            left += parts[warmup]
    return [list(common), own, sorted(parts.items())]


PENDING = "not registered yet"
"""In place of the time of an amendment that only a report has seen: the next start registers it."""


def current(folder: Path, study: Study) -> Plan:
    """The registered plan; changes of the study's file since the last start are a pending amendment, not written.

    Raises:
        InputError: the file of the plan is damaged.
    """
    return _amended(read(folder), study, PENDING)


def _amended(plan: Plan, study: Study, time: str) -> Plan:
    """The plan with ``study`` as its latest version: with an amendment if it differs, else the same object."""
    described = study.described()
    if plan.latest == described:
        return plan
    return replace(plan, amendments=(*plan.amendments, {"time": time, "study": described}))


def registered(folder: Path, study: Study, jobs: Sequence[Job]) -> Plan:
    """Register the plan of a study in ``folder``, or add an amendment if the registered plan is another one.

    ``jobs`` are those of the study; the plan names the runs among them that are done already.

    Raises:
        InputError: the file of the plan is damaged.
    """
    file, now = folder / PLAN, datetime.now().isoformat(" ", "seconds")
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = sorted({job.label for job in jobs if job.kind == "train" and job.complete})
        write_json(file, {"registered": now, "study": study.described(), "amendments": [], "before": done})
    before = read(folder)
    plan = _amended(before, study, now)
    if plan is not before:
        kept = {"registered": plan.registered, "study": plan.first, "before": list(plan.before)}
        write_json(file, {**kept, "amendments": list(plan.amendments)})
    return plan


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
