"""Pre-registration: the plan of a study is written before its first run; what is added later is marked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from src.studies.settings import Study
from src.types import InputError
from src.utils.files import write_json

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """A registered plan: the study as it was before its first run, and the changes since."""

    registered: str
    first: Mapping[str, Any]
    amendments: tuple[Mapping[str, Any], ...] = ()

    @property
    def latest(self) -> Mapping[str, Any]:
        """The study as it is now."""
        return self.amendments[-1]["study"] if self.amendments else self.first

    def compares(self, first: str, second: str) -> bool:
        """Whether the comparison of two runs was planned."""
        return any({first, second} == set(pair) for pair in self.first["comparisons"])

    def runs(self, name: str, study: Study) -> bool:
        """Whether a run was planned as it is in ``study``: its overrides, and those of all runs."""
        planned = self.first["runs"].get(name)
        return bool(planned == list(study.runs[name]) and self.first["common"] == list(study.common))

    def changed(self) -> Iterator[str]:
        """The amendments in words."""
        before = self.first
        for amendment in self.amendments:
            after = amendment["study"]
            names = [key for key in after if after[key] != before.get(key)]
            yield f"{amendment['time']}: {', '.join(names)}"
            before = after


def registered(folder: Path, study: Study) -> Plan:
    """Register the plan of a study in ``folder``, or add an amendment if the registered plan is another one.

    Raises:
        InputError: the file of the plan is damaged.
    """
    file, now, described = folder / PLAN, datetime.now().isoformat(" ", "seconds"), study.described()
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"registered": now, "study": described, "amendments": []})
    plan = read(folder)
    if plan.latest == described:
        return plan
    amendments = (*plan.amendments, {"time": now, "study": described})
    write_json(file, {"registered": plan.registered, "study": plan.first, "amendments": list(amendments)})
    return Plan(plan.registered, plan.first, amendments)


def read(folder: Path) -> Plan:
    """Read the registered plan of a study.

    Raises:
        InputError: its file is damaged.
    """
    file = folder / PLAN
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Plan(found["registered"], found["study"], tuple(found["amendments"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: damaged: {error}. Restore it, or start the study in another root=<folder>"
        ) from error
