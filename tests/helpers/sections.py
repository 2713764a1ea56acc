"""Collecting the error messages of sections in tests."""

from __future__ import annotations

from typing import Any

from src.config.building import attempt
from src.settings import RunSettings, Section


def mistakes(kind: type[Section], place: str = "", **values: Any) -> list[str]:
    """Error messages from building a section with these values; empty if it is valid."""
    errors: list[str] = []
    attempt(values, kind, place, errors)
    return list(dict.fromkeys(errors))


def run_mistakes(section: Section, **sections: Any) -> list[str]:
    """Error messages of the section's ``check_run`` in a run with these other sections."""
    return list(section.check_run(RunSettings.model_construct(**sections)))
