"""Finished warm-ups whose adapters are gone, as in a recorded study that is copied back to add seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from src.config import build
from src.studies.jobs import Job, composed
from src.studies.settings import Study

VALUES: dict[str, Any] = {
    "_target_": "src.studies.settings.Study",
    "question": "?",
    "common": ["model.adapter=@warm", "train.steps=2"],
    "warmups": {"warm": ["model=tiny", "imitation.steps=2"]},
    "runs": {"a": ["rounds=2"], "b": ["rounds=3"]},
    "seeds": [0, 1],
    "evaluations": {"before": {"overrides": ["evaluation.rounds=[3]"], "of": ["a", "base"]}},
}


def finish(*jobs: Job) -> None:
    for job in jobs:
        job.done.parent.mkdir(parents=True, exist_ok=True)
        job.done.touch()


def test_an_adapter_that_no_missing_job_needs_may_be_gone(tmp_path: Path) -> None:
    study = build(VALUES, Study)
    jobs, errors = composed(study, tmp_path)
    assert errors == []
    finish(*(job for job in jobs if job.seed == 0))
    again, errors = composed(study, tmp_path)
    assert errors == []
    assert again == jobs
    assert {job.seed for job in again if not job.complete} == {1}


def test_a_missing_job_needs_the_adapter_and_the_mistake_says_what_to_do(tmp_path: Path) -> None:
    study = build(VALUES, Study)
    jobs, _ = composed(study, tmp_path)
    warm, *others = (job for job in jobs if job.seed == 0)
    for missing in (job for job in others if job.kind == "train" or job.run == "base"):
        finish(warm, *others)
        missing.done.unlink()
        (error,) = composed(study, tmp_path)[1]
        assert error.startswith(f"model.adapter={warm.directory}: contains no LoRA adapter")
        assert error.endswith(f"To train this warm-up again, remove {warm.directory}")
    warm.done.unlink()
    assert composed(study, tmp_path)[1] == [], "the warm-up is trained again"
