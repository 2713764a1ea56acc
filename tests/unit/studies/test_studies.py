"""The studies of ``conf/study``: every job of each composes, and asks a question."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.config import CONF, build, compose, options, overlay
from src.config.composing import raw
from src.reporting import aggregations
from src.studies import further
from src.studies.jobs import composed, planned
from src.studies.registering import Plan
from src.studies.settings import Study
from src.utils.files import write_json
from tests.helpers import markdown_tables

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
    jobs, errors = composed(study, tmp_path)  # composes the evaluations of the base
    assert [problem for problem in errors if not MISSING.search(problem)] == []
    for job in jobs:
        if job.kind == "evaluate" and (job.evaluation, job.run == "base") not in seen:
            seen.add((job.evaluation, job.run == "base"))
            if job.run != "base":
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


def evaluated(runs: list[str], evaluations: list[str], comparisons: list[list[str]]) -> tuple[Study, Plan]:
    """A study with evaluations of its runs, and its plan."""
    values = {"_target_": "src.studies.settings.Study", "question": "?", "runs": {run: [] for run in runs}}
    values |= {"evaluations": {name: {"overrides": []} for name in evaluations}, "comparisons": comparisons}
    study: Study = build(values, Study)
    return study, Plan("today", study.described())


def test_evaluations_that_read_several_drafts_have_a_table_of_measures(tmp_path: Path) -> None:
    share = {"count": 1, "total": 4, "estimate": 0.25, "low": 0.1, "high": 0.5}
    graph = {
        **{"sequential_tokens": 12.0, "total_tokens": 30.0, "draft_vote": None},
        **{"right_if_all_wrong": share, "wrong_if_some_right": None, "by_position": {"1": share, "2": None}},
    }
    numbers = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "majority": 0.5, "tokens_per_answer": 30.0, "problems": 8}
    numbers |= {"samples": 1, "per_problem": [1, 0] * 4, "decided_by": {"problems": {"sha256": "s"}}}
    summary = {"benchmark": "sums", "split": "easy", "rounds": 2, **numbers}
    files = {"plain": summary, "several": {**summary, "graph": graph}}
    for name, content in files.items():
        write_json(tmp_path / f"{name}.json", [content])
    study, plan = evaluated(["mine"], list(files), [])
    jobs: Any = [
        SimpleNamespace(
            kind="evaluate", evaluation=name, run="mine", seed=0, directory=tmp_path, complete=True, done=file
        )
        for name, file in ((name, tmp_path / f"{name}.json") for name in files)
    ]
    plain, _, several, _, measures, note = further.tables(study, plan, further.done(study, plan, jobs), {})
    assert (plain, several, note) == ("## Evaluation: plain", "## Evaluation: several", aggregations.NOTE)
    heads, row = markdown_tables.rows(measures)
    assert heads[:4] == ["runs", "test split", "rounds", "accuracy"]
    cells = ["50.0 [40.0, 60.0]", "8", "12.0", "30.0", "-", "25.0 [10.0, 50.0]", "-", "25.0 [10.0, 50.0]", "-"]
    assert row == ["mine", "easy", "2", *cells]


def test_the_studies_hold_only_settings_of_their_own() -> None:
    assert set(raw("study", ["study=rounds"])) == {
        "_target_",
        "study",
        "root",
        "at_once",
        "estimate",
        "device",
        "report",
        "record",
    }


def test_further_evaluations_of_planned_comparisons_are_compared(tmp_path: Path) -> None:
    """Two seeds of two runs: the second is right on one problem more of four."""
    marks = {"a": [[2, 0, 2, 0], [2, 0, 0, 0]], "b": [[2, 2, 2, 0], [2, 0, 2, 0]]}
    jobs: list[Any] = []
    for run, seeds in marks.items():
        for seed, sums in enumerate(seeds):
            one = {"benchmark": "sums", "split": "easy", "rounds": 2, "samples": 2, "per_problem": sums}
            one |= {"accuracy": sum(sums) / 8, "low": 0.0, "high": 1.0, "majority": 0.5, "tokens_per_answer": 9.0}
            one |= {"problems": 4, "decided_by": {"problems": {"sha256": "s"}}}
            write_json(tmp_path / f"{run}{seed}.json", [one])
            place, done = tmp_path / f"{run}{seed}", tmp_path / f"{run}{seed}.json"
            jobs.append(
                SimpleNamespace(evaluation="more", run=run, seed=seed, directory=place, complete=True, done=done)
            )
    tokens = {"a": 10.0, "b": 20.0}
    runs: Any = {job.directory: SimpleNamespace(metrics=[{"tokens/generated": tokens[job.run]}]) for job in jobs}
    study, plan = evaluated(["a", "b", "c"], ["more"], [["a", "b"], ["a", "c"]])
    _, table, title, compared = further.tables(study, plan, further.done(study, plan, jobs), runs)
    assert "| a | easy | 2 | 37.5" in re.sub(" +", " ", table)
    assert title == "### Planned comparisons: more"
    _, row = markdown_tables.rows(compared)
    assert row[:4] == ["easy", "2", "a", "b"]
    assert row[4].strip("()").startswith("+25.0 [")
    assert row[8] == "x 2.00"
