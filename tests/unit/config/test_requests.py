"""What a command line asks for: runs, sweeps, and sweeps that an option asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config import CONF, compose
from src.config.requests import points, requested
from src.types import InputError

RECIPES = sorted(file.stem for file in (CONF / "experiment" / "sweep").glob("*.yaml") if file.stem != "optuna")


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("form", ["experiment/sweep={}", "experiment=sweep/{}"])
def test_a_recipe_is_a_sweep_without_the_flag(name: str, form: str) -> None:
    request = requested("train", [form.format(name), "train.steps=7"], False)
    assert request.sweep
    assert not request.search
    assert "hydra.sweeper.params=null" in request.flags
    for job in (request.jobs[0], request.jobs[-1]):
        assert compose("train", job).settings.train.steps == 7


def test_the_command_line_wins_over_a_recipe_and_rounds_need_no_quotes() -> None:
    request = requested("train", ["experiment/sweep=rounds-reward", "seed=4", "rounds=2"], False)
    assert {text for job in request.jobs for text in job if text.startswith(("seed", "rounds"))} == {
        "seed=4",
        'rounds="2"',
    }
    assert len(request.jobs) == 2
    whole = requested("train", ["experiment/sweep=rounds-reward"], False)
    assert {compose("train", job).settings.rounds.n for job in whole.jobs[::6]} == {1, 3, 5}


def test_one_run_is_no_sweep() -> None:
    request = requested("train", ["rounds=3"], False)
    assert (request.sweep, request.jobs, request.flags) == (False, [['rounds="3"']], [])


def test_the_last_override_of_a_setting_counts() -> None:
    request = requested("train", ["seed=0", "train.steps=3", "seed=1,2"], True)
    assert request.jobs == [["seed=1", "train.steps=3"], ["seed=2", "train.steps=3"]]


def test_a_search_is_checked_at_each_value_and_at_both_ends_of_an_interval() -> None:
    found = points(["optimizer.lr=tag(log,interval(1e-5,1e-3))", "seed=0,1", "train.steps=2"])
    assert found == [
        ["optimizer.lr=1e-05", "seed=0", "train.steps=2"],
        ["optimizer.lr=0.001", "seed=0", "train.steps=2"],
        ["optimizer.lr=1e-05", "seed=1", "train.steps=2"],
    ]
    with pytest.raises(InputError, match="hydra/sweeper=optuna"):
        requested("train", ["optimizer.lr=interval(1e-5,1e-3)"], True).jobs  # noqa: B018 (raises)


def test_recipes_are_documented_options() -> None:
    assert {"rounds-reward", "credit", "seeds"} <= set(RECIPES)
    for name in RECIPES:
        assert "# " in Path(CONF / "experiment" / "sweep" / f"{name}.yaml").read_text().splitlines()[1]
