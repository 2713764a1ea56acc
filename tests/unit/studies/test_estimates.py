"""Estimates of studies: how a trial is started, and what is counted on a GPU."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from src.config import build, compose
from src.estimating.devices import device_named
from src.estimating.published import shape_for
from src.estimating.running import evaluation_seconds
from src.studies import estimating
from src.studies.jobs import Job, planned
from src.studies.settings import Study
from src.types import InputError

OVERRIDES = ("model=tiny", "benchmark=chain-sum", "train.steps=50")


def job(*overrides: str) -> Job:
    return Job("train", "a", 0, (*OVERRIDES, *overrides), Path("place"), Path("place/summary.json"))


@pytest.fixture
def plan() -> Study:
    values = {
        "_target_": "src.studies.settings.Study",
        "question": "?",
        "common": ["benchmark=chain-sum", "model=tiny", "model.adapter=@warm"],
        "warmups": {"warm": ["model=tiny", "imitation.steps=2"]},
        "runs": {"a": ["rounds=2"]},
        "seeds": [0],
    }
    found: Study = build(values, Study)
    return found


def test_a_trial_starts_without_a_warm_up_that_is_not_done(
    plan: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm, trained = jobs = planned(plan, tmp_path)
    tried: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        tried.append(command)
        return subprocess.CompletedProcess(command, 2, "", "this is where the trial ends")

    monkeypatch.setattr(subprocess, "run", run)
    adapter = f"model.adapter={warm.directory}"
    for done in (False, True):
        if done:
            warm.done.parent.mkdir(parents=True)
            warm.done.write_text("{}")
        with pytest.raises(InputError, match="train a, seed 0: a trial of two steps failed: this is where"):
            estimating.estimated(plan, jobs, tmp_path, None)
        assert (adapter in tried[-1]) == done
    places = [next(text for text in command if text.startswith("hydra.run.dir=")) for command in tried]
    assert places[0] == f"{places[1]}-without-warmup"  # a trial with the warm-up writes answers of other lengths
    assert adapter in trained.overrides


def test_a_trial_that_takes_too_long_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(InputError, match=r"train a, seed 0: .* took more than 3600 seconds .* device=H200"):
        estimating.probed(job(), tmp_path)


def test_validations_are_counted_on_a_gpu() -> None:
    never, often = (f"evaluation.every={every}" for every in (0, 20))
    settings = compose("train", [*OVERRIDES, often]).settings
    chains = settings.rounds.independent(settings.rounds.n, 1, 0.0, 1.0)
    device = device_named("H200")
    one = evaluation_seconds(settings, shape_for(settings.model), device, chains, settings.benchmark.validation_size)
    more = estimating.computed(job(often), "H200") - estimating.computed(job(never), "H200")
    assert more == pytest.approx(3 * one)  # after 20, 40 and 50 steps
    at_start = estimating.computed(job(often, "evaluation.at_start=true"), "H200")
    assert at_start - estimating.computed(job(often), "H200") == pytest.approx(one)
    assert estimating.computed(job(often, "rounds=mixture"), "H200") > 0
    both = (often, "evaluation.before=false", "evaluation.keep_best=true")  # the last weights are tested, too
    assert estimating.computed(job(*both), "H200") - estimating.computed(job(often), "H200") == pytest.approx(one)


def test_a_limit_above_the_number_of_test_problems_changes_nothing() -> None:
    def problems(*overrides: str) -> int:
        return estimating._problems(compose("train", [*OVERRIDES, *overrides]).settings)

    assert problems("benchmark.test_size=50", "evaluation.limit=200") == 50
    assert problems("benchmark.test_size=50", "evaluation.limit=20") == 20
