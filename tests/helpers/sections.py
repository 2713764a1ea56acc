"""Building sections in tests: the mistakes that a user would see."""

from __future__ import annotations

from typing import Any

from src.config.building import attempt
from src.config.commands import RunSettings
from src.settings import Section


def mistakes(kind: type[Section], place: str = "", **values: Any) -> list[str]:
    """Everything that is wrong with these values of a section, in words."""
    errors: list[str] = []
    attempt(values, kind, place, errors)
    return list(dict.fromkeys(errors))


def run_mistakes(section: Section, **sections: Any) -> list[str]:
    """What cannot work in a run with these other sections, in words."""
    return list(section.check_run(RunSettings.model_construct(**sections)))
