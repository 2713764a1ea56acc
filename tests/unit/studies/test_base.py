"""The policy before training (``base``): it starts from the weights of the runs, with their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.config import build, compose
from src.studies.jobs import Job, planned
from src.studies.settings import Study
from src.types import InputError

VALUES: dict[str, Any] = {
    "_target_": "src.studies.settings.Study",
    "question": "?",
    "common": ["train.steps=2"],
    "runs": {"a": ["rounds=2"], "b": ["rounds=3"]},
    "seeds": [0],
    "evaluations": {"before": {"overrides": ["evaluation.rounds=[3]"], "of": ["base"]}},
}


def jobs_of(root: Path, **changes: Any) -> list[Job]:
    return planned(build(VALUES | changes, Study), root)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ({"a": ["model=tiny"], "b": ["model=tiny-drafts"]}, r"another one: b \(model.name=embedded:tiny-drafts\)"),
        ({"a": ["rounds=2", "model=tiny-drafts"]}, r"another one: a \(model.name=embedded:tiny-drafts\)"),
        ({"a": ["rounds=2"], "b": ["experiment=paper-motif"]}, r"another one: b \(model.name=Qwen"),
    ],
)
def test_runs_that_start_from_other_weights_than_the_base_are_named(
    tmp_path: Path, runs: dict[str, list[str]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        jobs_of(tmp_path, runs=runs)
    assert jobs_of(tmp_path, runs=runs, evaluations={})


def test_other_rounds_or_tokens_are_no_other_weights(tmp_path: Path) -> None:
    assert jobs_of(tmp_path, runs={"a": ["rounds=2"], "b": ["rounds=2", "model.round_tokens=20"]})
    with_model = ["train.steps=2", "model=tiny-drafts"]
    (base,) = (job for job in jobs_of(tmp_path, common=with_model) if job.run == "base")
    assert base.overrides == ("model=tiny-drafts", "evaluation.rounds=[3]", "seed=0")


def test_the_base_has_the_settings_of_the_experiment_of_all_runs(tmp_path: Path) -> None:
    common = ["experiment=delethink", "debug=smoke", "model=tiny-drafts", "rounds.first_tokens=30", "credit=shared"]
    (trained, base) = jobs_of(tmp_path, common=common, runs={"a": []})
    before, after = (compose(job.kind, job.overrides).settings for job in (base, trained))
    assert before.model == after.model
    assert before.rounds == after.rounds
    assert before.benchmark == after.benchmark
    assert (before.evaluation.rounds, before.evaluation.samples) == ([3], after.evaluation.samples)
    assert before.model.name == "embedded:tiny-drafts"
