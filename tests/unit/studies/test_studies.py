"""The studies of ``conf/study``: every job of each composes, and asks a question."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from src.config import CONF, compose, options, overlay
from src.config.composing import raw
from src.studies.jobs import composed, planned
from src.studies.settings import Study

NAMES = options("study")
MISSING = re.compile(r"not installed|its weights are not installed|torch sees no CUDA")
"""Mistakes that come from packages or devices that this machine lacks."""


FAST = ("rounds", "table1-small")
"""Studies that the fast suite composes; composing all takes minutes."""


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in NAMES])
def test_every_run_and_warmup_of_a_study_is_valid(name: str, tmp_path: Path) -> None:
    study: Study = compose("study", [f"study={name}"]).settings.study
    assert study.question.endswith((".", "?"))
    assert study.comparisons
    jobs, errors = composed(study, tmp_path)
    assert [problem for problem in errors if not MISSING.search(problem)] == []
    assert len({(job.label, job.directory) for job in jobs}) == len(jobs)
    trained = {job.directory for job in jobs if job.kind == "train"}
    assert len(trained) == len(study.runs) * len(study.seeds), "two runs have the same settings"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "evaluations:" in (CONF / f"study/{name}.yaml").read_text()]
)
def test_every_further_evaluation_of_a_study_is_valid(name: str, small_run: Path, tmp_path: Path) -> None:
    study: Study = compose("study", [f"study={name}"]).settings.study
    seen = set()
    for job in planned(study, tmp_path):
        if job.kind == "evaluate" and (job.evaluation, job.run == "base") not in seen:
            seen.add((job.evaluation, job.run == "base"))
            if job.run == "base":
                compose("evaluate", job.overrides)
            else:
                overlay("evaluate", [f"run={small_run}", *job.overrides[1:]])
    assert {evaluation for evaluation, _ in seen} == set(study.evaluations)


def test_equal_runs_of_two_studies_are_one(tmp_path: Path) -> None:
    folders = {}
    for name, kept in (("carry", ["answer", "none"]), ("schemes", ["motif"]), ("rounds", ["n3"])):
        study: Study = compose("study", [f"study={name}"]).settings.study
        runs = {run: study.runs[run] for run in kept}
        part = study.replace(seeds=[3, 5], runs=runs, comparisons=[], evaluations={})
        folders |= {(job.run, job.seed): job.directory for job in planned(part, tmp_path)}
    assert folders["answer", 3] == folders["n3", 3] == folders["motif", 3]
    assert len(set(folders.values())) == 4


def test_the_studies_hold_only_settings_of_their_own() -> None:
    assert set(raw("study", ["study=rounds"])) == {"_target_", "study", "root", "estimate", "device", "report"}
