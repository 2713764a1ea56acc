"""One problem's rollout outside training: the same turns every time, and the credit that each rule gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config import compose
from src.run import Run, build_run
from src.training.one_rollout import credit_table, one_rollout
from tests.conftest import SMALL
from tests.helpers import markdown_tables

SETTINGS = [*SMALL, "rounds=2", "reward=outcome", "rounds.responses=3", "rounds.trajectories=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(compose("train", SETTINGS), tmp_path_factory.mktemp("run"))


def test_a_credit_rule_changes_the_advantages_only(run: Run, tmp_path: Path) -> None:
    problem = run.splits.train[0]
    first = one_rollout(run, problem)
    assert one_rollout(run, problem) == first
    other = one_rollout(run, problem, compose("train", [*SETTINGS, "credit=siblings"]).settings.credit)
    assert [turn["advantage"] is None for turn in first["turns"]] == [False] * 3 + [True] * 6
    assert all(turn["advantage"] is not None for turn in other["turns"])
    for turn in (*first["turns"], *other["turns"]):
        del turn["advantage"]
    assert first == other
    assert not list(tmp_path.iterdir())


def test_the_table_compares_a_turn_with_its_siblings() -> None:
    common = {"carried": "", "tokens": 5, "round": 1, "parent": []}
    turns = [
        {**common, "path": [0], "correct": 1.0, "value": 1.1, "advantage": 0.7},
        {**common, "path": [1], "correct": 0.0, "value": 0.1, "advantage": -0.7},
        {**common, "path": [2], "correct": None, "value": None, "advantage": None},
        {
            **common,
            "path": [0, 0],
            "parent": [0],
            "round": 2,
            "carried": "4",
            "correct": 1.0,
            "value": 1.1,
            "advantage": None,
        },
    ]
    _, *rows = markdown_tables.rows(credit_table({"turns": turns}))
    assert rows == [
        ["1", "1", "-", "5", "1.00", "1.10", "0.60", "+0.70"],
        ["2", "1", "-", "5", "0.00", "0.10", "0.60", "-0.70"],
        ["3", "1", "-", "5", "-", "-", "0.60", "does not learn"],
        ["1.1", "2", "4", "5", "1.00", "1.10", "1.10", "does not learn"],
    ]
