"""Units, entry by entry."""

from __future__ import annotations

from collections import Counter

import pytest

from src.verifiers.normalization import verdict
from src.verifiers.units import KNOWN, UNITS

NAMES = [(unit, name) for unit, names in UNITS.items() for name in names]


@pytest.mark.parametrize(("unit", "name"), NAMES)
def test_every_name_of_a_unit_means_that_unit_and_no_other(unit: str, name: str) -> None:
    assert KNOWN[name] == unit
    others = [other for other in UNITS if other != unit]
    assert [other for other in others if KNOWN[name] == KNOWN[other]] == []


def test_no_name_belongs_to_two_units() -> None:
    counts = Counter([*UNITS, *(name for _, name in NAMES)])
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("3 hours", "3 hour", True),
        ("3 hours", "3 \\text{ hr}", True),
        ("5 miles", "5 mph", False),
        ("5 mph", "5 \\text{ miles per hour}", True),
        ("3 hours", "3 km/h", False),
        ("60 \\text{ km per hour}", "60 kmh", True),
        ("7 kilometers", "7 km", True),
    ],
)
def test_hours_are_not_kilometers_per_hour(gold: str, answer: str, equal: bool) -> None:
    assert verdict(gold, answer) is equal
