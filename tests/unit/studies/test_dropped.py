"""What is dropped from a plan after its registration: it is listed, and what was planned stays in its family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.config import build
from src.reporting import pairs
from src.reporting.runs import Group
from src.studies import changes, dropping, further
from src.studies.comparing import comparisons
from src.studies.jobs import Job, planned
from src.studies.registering import Plan
from src.studies.settings import Study
from src.utils.files import write_json
from tests.helpers import markdown_tables
from tests.unit.studies.test_against_base import found, group, summary

VALUES: dict[str, Any] = {
    "_target_": "src.studies.settings.Study",
    "question": "?",
    "common": ["train.steps=2"],
    "runs": {"a": ["rounds=1"], "b": ["rounds=2"], "c": ["rounds=4"]},
    "seeds": [0, 1],
    "comparisons": [["a", "b"], ["a", "c"]],
}
MARKS = {"a": [[0, 0, 1, 0], [0, 1, 1, 0]], "b": [[2, 2, 1, 2], [2, 1, 2, 2]], "c": [[1, 0, 1, 0], [0, 1, 1, 1]]}


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "generated", lambda run: 1.0)


def changed(**changes: Any) -> tuple[Study, Plan]:
    """A study whose file has changed since its registration, and its plan."""
    now = build(VALUES | changes, Study)
    amended = {"time": "tomorrow", "study": now.described()}
    return now, Plan("today", build(VALUES, Study).described(), (amended,) if changes else ())


def groups(**labels: str) -> list[Group]:
    return [
        group(*({**summary(marks), "step": 1} for marks in MARKS[run]), label=labels.get(run, run)) for run in MARKS
    ]


def tables(study: Study, plan: Plan, runs: list[Group]) -> dict[str, list[list[str]]]:
    """The rows of each table by its title; those of variance components are left out."""
    parts = [part.partition("\n\n")[0] for part in comparisons(study, plan, runs, {})]
    places = [place for place, part in enumerate(parts) if part.startswith("#")]
    ends = [*places[1:], len(parts)]
    return {
        parts[place]: [row for part in parts[place:end] if "| " in part for row in markdown_tables.rows(part)[1:]]
        for place, end in zip(places, ends, strict=True)
    }


def test_a_dropped_comparison_stays_in_the_table_and_in_the_number_of_comparisons() -> None:
    whole = tables(*changed(), groups())
    assert [row[2:4] for row in whole["## Planned comparisons"]] == [["a", "b"], ["a", "c"]]
    less = tables(*changed(comparisons=[["a", "b"]]), groups())
    assert less == whole
    study, plan = changed(comparisons=[["a", "b"]])
    assert list(dropping.in_words(plan, study, [])) == ["**Planned, then taken out:**\n\n- comparison of a with c"]


def test_a_dropped_or_changed_run_is_compared_as_it_was_registered() -> None:
    rows = tables(*changed(), groups())["## Planned comparisons"]
    study, plan = changed(runs={"a": ["rounds=1"], "b": ["rounds=2"]}, comparisons=[["a", "b"]])
    less = tables(study, plan, groups(c="c (taken out)"))
    assert [row[4:] for row in less["## Planned comparisons"]] == [row[4:] for row in rows]
    study, plan = changed(runs={**VALUES["runs"], "c": ["rounds=5"]})
    both = [*groups(c="c (taken out)"), *groups(c="c (not planned)")[2:]]
    assert less["## Planned comparisons"] == tables(study, plan, both)["## Planned comparisons"]
    (text,) = dropping.in_words(plan, study, [])
    assert text == "**Planned, then taken out:**\n\n- run c: `rounds=4`; without results here"


def test_a_comparison_of_a_run_that_was_dropped_before_it_was_run_is_listed() -> None:
    study, plan = changed(runs={"a": ["rounds=1"], "b": ["rounds=2"]}, comparisons=[["a", "b"]])
    *_, listed = (part for part in comparisons(study, plan, groups()[:2], {}))
    assert listed == "**Not compared:**\n\n- a with c: c taken out, with no finished run"


def test_planned_seeds_have_a_table_of_their_own() -> None:
    rows = tables(*changed(), groups())["## Planned comparisons"]
    study, plan = changed(seeds=[0, 1, 7])
    more = [replace(one, runs=(*one.runs, replace(one.runs[0], seed=7, path=Path("7")))) for one in groups()]
    both = tables(study, plan, more)
    assert both["## Planned comparisons"] == rows
    assert len(both["### The same with seed 7, which was not planned"]) == 2
    study, plan = changed(seeds=[1])
    assert tables(study, plan, groups())["## Planned comparisons"] == rows, "seed 0 was taken out, but it was planned"


def test_finished_jobs_that_were_dropped_are_found(tmp_path: Path) -> None:
    more = {"evaluations": {"late": {"overrides": ["rounds=3"], "of": ["a"]}}}
    first = build(VALUES | more, Study)
    for job in planned(first, tmp_path):
        job.done.parent.mkdir(parents=True, exist_ok=True)
        job.done.write_text("[]")
    now = build(VALUES | {"runs": {"a": ["rounds=1"], "b": ["rounds=3"]}, "seeds": [1], "comparisons": []}, Study)
    plan = Plan("today", first.described(), ({"time": "tomorrow", "study": now.described()},))
    jobs = planned(now, tmp_path)
    gone = dropping.taken_out(plan, now, jobs, tmp_path)
    assert {(job.kind, job.run, job.evaluation, job.seed) for job in gone} == {
        ("train", "a", "", 0),
        *(("evaluate", "a", "late (taken out)", seed) for seed in (0, 1)),
        *(("train", f"{run} (taken out)", "", seed) for run in "bc" for seed in (0, 1)),
    }
    (text,) = dropping.in_words(plan, now, [*jobs, *gone])
    assert text.splitlines()[2:] == [
        "- run b: `rounds=2`; its finished jobs are reported",
        "- run c: `rounds=4`; its finished jobs are reported",
        "- seed 0; its finished jobs are reported",
        "- evaluation late of a; its finished jobs are reported",
        "- comparison of a with b",
        "- comparison of a with c",
    ]
    same = Plan("today", now.described())
    assert dropping.taken_out(same, now, jobs, tmp_path) == []


def test_amendments_say_what_was_and_what_is() -> None:
    _, plan = changed(
        seeds=[1], runs={"a": ["rounds=1"], "b": ["rounds=3"], "d": []}, hours=2.0, comparisons=[["d", "a"]]
    )
    assert list(changes.amendments(plan)) == [
        "- tomorrow",
        "  - comparison of a with b taken out",
        "  - comparison of a with c taken out",
        "  - comparison of d with a added",
        "  - hours: none → 2.0",
        "  - run b: `rounds=2` → `rounds=3`",
        "  - run c taken out: `rounds=4`",
        "  - run d added: nothing",
        "  - seeds: `0 1` → `1`",
    ]
    _, plan = changed(comparisons=[["a", "c"], ["a", "b"]])
    assert list(changes.amendments(plan))[1:] == ["  - comparisons in another order"]


def test_planned_comparisons_without_a_row_are_listed() -> None:
    runs = groups()
    other = {**summary([1, 0, 1, 0]), "step": 1, "rounds": 2}
    tests = {"evaluations": {"after": [*runs[1].runs[0].summary["evaluations"]["after"], other]}}
    second = replace(runs[1], runs=tuple(replace(run, summary=tests) for run in runs[1].runs))
    third = replace(runs[2], runs=tuple(replace(run, seed=run.seed + 10) for run in runs[2].runs))
    study, plan = changed()
    _, _, listed = comparisons(
        study, replace(plan, first={**plan.first, "seeds": [0, 1, 10, 11]}), [runs[0], second, third], {}
    )
    assert listed.splitlines()[2:] == [
        "- a with b: easy over 2 rounds (only b was tested)",
        "- a with c: no seed in common",
    ]


def test_an_evaluation_of_a_policy_that_was_not_asked_for_is_marked(tmp_path: Path) -> None:
    first = build(VALUES | {"evaluations": {"more": {"overrides": [], "of": ["a", "b"]}}}, Study)
    now = build(VALUES | {"evaluations": {"more": {"overrides": []}}}, Study)
    plan = Plan("today", first.described(), ({"time": "tomorrow", "study": now.described()},))
    jobs, runs = list[Job](), {}
    for run, marks in MARKS.items():
        for seed, right in enumerate(marks):
            numbers = {
                "accuracy": 0.5,
                "low": 0.4,
                "high": 0.6,
                "majority": 0.5,
                "tokens_per_answer": 3.0,
                "problems": 4,
            }
            write_json(tmp_path / f"{run}{seed}.json", [{**summary(right), **numbers}])
            jobs.append(Job("evaluate", run, seed, (), tmp_path / run, tmp_path / f"{run}{seed}.json", "more"))
            runs[tmp_path / run] = group(summary(right)).runs[0]
    texts = list(further.tables(now, plan, further.done(now, plan, jobs), runs))
    titles = [text for text in texts if text.startswith("#")]
    assert titles == [
        "## Evaluation: more",
        "### Planned comparisons: more",
        "### Comparisons that were not planned: more",
    ]
    tables = (texts[texts.index(title) + 1].partition("\n\n")[0] for title in titles[1:])
    planned, others = (markdown_tables.rows(table)[1:] for table in tables)
    assert [row[2:4] for row in planned] == [["a", "b"]]
    assert [row[2:4] for row in others] == [["a", "c (not planned)"]]


def test_a_later_evaluation_of_the_base_adds_no_planned_comparison() -> None:
    before = {"overrides": [], "of": ["base"]}
    based = VALUES | {"comparisons": [["base", "a"]], "evaluations": {"before": before}}
    study = build(based | {"evaluations": {"before": before, "again": {**before, "overrides": ["seed_=1"]}}}, Study)
    plan = Plan("today", build(based, Study).described(), ({"time": "tomorrow", "study": study.described()},))
    one = found(*map(summary, MARKS["c"]))["before"]
    parts = "\n".join(comparisons(study, plan, groups()[:1], {"before": one, "again": one}))
    planned, _, others = parts.partition("## Comparisons that were not planned")
    assert planned.count("| base ") == others.count("| base ") == 1
