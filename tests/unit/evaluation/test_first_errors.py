"""The round in which a chain of sums goes wrong, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.first_errors import first_error, shares, value


@pytest.mark.parametrize(
    ("handed", "expected"),
    [
        ("4 - 9 + 3", -2),
        ("-5+3", -2),
        ("-5 - -3", -2),
        ("7", 7),
        ("\\boxed{-12}", -12),
        ("", None),
        ("4 - ", None),
        ("4 * 3", None),
        ("\\boxed{}", None),
    ],
)
def test_values(handed: str, expected: int | None) -> None:
    assert value(handed) == expected


def chain(carried: list[str], correct: float) -> dict[str, Any]:
    return {"gold": "-2", "correct": correct, "rounds": 3, "carried": ["", *carried]}


def test_the_first_round_whose_sum_is_not_the_gold_answer(tmp_path: Path) -> None:
    right, wrong = "-5 + 3", "5 + 3"
    chains = [
        chain([right, "-2"], 1.0),
        chain([wrong, "8"], 0.0),
        chain([right, "-8"], 0.0),
        chain([right, ""], 0.0),
        chain([right, "-2"], 0.0),
        chain([wrong, "-2"], 1.0),  # two errors that cancel: the answer counts
    ]
    assert [first_error(one) for one in chains] == [0, 1, 2, 2, 3, 0]
    file = tmp_path / "rounds3.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in chains), encoding="utf-8")
    assert shares(file) == pytest.approx([1 / 3, 1 / 6, 1 / 3, 1 / 6])
