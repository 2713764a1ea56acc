"""The further evaluations of a study: a table of accuracies for each, and its planned comparisons."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.reporting import aggregations, pairs
from src.reporting import tables as results
from src.reporting.evaluations import Name
from src.reporting.runs import Run
from src.studies.comparing import (
    Compared,
    Found,
    beyond,
    not_comparable,
    planned_tables,
    verdicts_of,
    where,
)
from src.studies.jobs import Job
from src.studies.registering import UNPLANNED, Plan
from src.studies.settings import BASE, Study
from src.utils import tables as layout


def done(study: Study, plan: Plan, jobs: Sequence[Job]) -> dict[str, Found]:
    """The finished further evaluations by name, in the order of the plan, with runs by their names in reports."""
    every: dict[str, dict[tuple[str, Name], dict[int, tuple[Path, Mapping[str, Any]]]]] = {}
    for name in dict.fromkeys([*study.evaluations, *(job.evaluation for job in jobs if job.evaluation)]):
        for job in jobs:
            if job.evaluation == name and job.complete:
                for one in json.loads(job.done.read_text(encoding="utf-8")):
                    key = _policy(study, plan, job), Name(one["benchmark"], one["split"], one["rounds"])
                    every.setdefault(name, {}).setdefault(key, {})[job.seed] = job.directory, one
    return dict(every)


def _policy(study: Study, plan: Plan, job: Job) -> str:
    """The name of an evaluated policy in reports, marked if its evaluation was not planned or it was taken out."""
    if job.run != BASE and job.run not in study.runs:
        return job.run
    titled = job.evaluation not in study.evaluations or not plan.evaluates(job.evaluation, study)  # says it already
    return plan.named(job.run, study) if titled or plan.asks_for(job.evaluation, job.run) else job.run + UNPLANNED


def tables(study: Study, plan: Plan, evaluations: Mapping[str, Found], runs: Mapping[Path, Run]) -> Iterator[str]:
    """The sections of a report on further ``evaluations``; ``runs`` are the trained runs by directory."""
    family = [tuple(plan.registered_as(run, study) for run in pair) for pair in plan.comparisons]
    for name, found in evaluations.items():
        planned = plan.plans_evaluation(name, study)
        yield f"## Evaluation: {name}" + UNPLANNED * (name in study.evaluations and not planned)
        yield _accuracies(found)
        if planned:
            title = f"### Planned comparisons: {name}"
            yield from planned_tables(_comparisons(family, found, runs, plan.seeds), title)
            if more := beyond(plan, (seed for by_seed in found.values() for seed in by_seed)):
                title = f"### The same with {more}: {name}"
                yield from planned_tables(_comparisons(family, found, runs, None), title, gaps=False)
        policies = {policy for policy, _ in found}
        later = [
            tuple(run + UNPLANNED if run + UNPLANNED in policies else run for run in pair) for pair in study.comparisons
        ]
        known = {frozenset(pair) for pair in family} if planned else set()
        others = [pair for pair in dict.fromkeys([*family, *later]) if frozenset(pair) not in known]
        if rows := _comparisons(others, found, runs, None).rows:
            yield f"### Comparisons that were not planned: {name}"
            yield pairs.markdown(pairs.adjusted(rows))
        yield from _graphs(found)


def _accuracies(found: Found) -> str:
    """Means over seeds."""
    rows = []
    for (run, what), by_seed in found.items():
        some = [one for _, one in by_seed.values()]
        votes = [one["majority"] for one in some]
        spread = results.spread(votes, 0, 1)
        rows.append(
            [
                *(run, what.split, str(what.rounds), results.percent(results.over_runs(some))),
                f"{100 * statistics.fmean(votes):.1f}" if spread is None else results.percent(spread),
                f"{statistics.fmean(one['tokens_per_answer'] for one in some):.1f}",
                *(str(some[0]["samples"]), str(len(some))),
            ]
        )
    heads = [
        "runs",
        "test split",
        "rounds",
        "accuracy",
        "majority (over seeds)",
        "tokens per answer",
        "samples",
        "seeds",
    ]
    return layout.markdown(heads, rows)


def _comparisons(
    chosen: Iterable[tuple[str, ...]], found: Found, runs: Mapping[Path, Run], seeds: Sequence[int] | None
) -> Compared:
    """The comparisons of policies that answered the same problems, with seeds in common, and why others are missing.

    ``seeds`` limits the seeds; ``None`` takes all.
    """
    rows, missing = list[pairs.Pair](), list[str]()
    for first, second in chosen:
        tests = [[test for policy, test in found if policy == name] for name in (first, second)]
        if not all(tests):
            continue  # not asked for, or not run
        for what in dict.fromkeys([*tests[0], *tests[1]]):
            before, after = (found.get((name, what), {}) for name in (first, second))
            common = sorted(seed for seed in before.keys() & after.keys() if seeds is None or seed in seeds)
            both = [(before[seed], after[seed]) for seed in common]
            summaries = [(one, other) for (_, one), (_, other) in both]
            of_base = first.partition(" (")[0] == BASE
            if reason := _not_compared(summaries, of_base) if before and after else "only one of them was tested":
                missing.append(f"{first} with {second}: {where(what.split, what.rounds)} ({reason})")
                continue
            tokens = None if of_base else pairs.more_tokens([(runs[one], runs[other]) for (one, _), (other, _) in both])
            rows.append(
                pairs.pair((what.split, what.rounds), (first, second), verdicts_of(summaries), tokens, summaries)
            )
    return Compared(rows, missing)


def _not_compared(both: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], of_base: bool) -> str:
    """Why evaluations of two policies, in pairs of the same seed, are not compared; empty if they are."""
    if not both:
        return "no seed in common"
    if of_base:
        return not_comparable(both)
    return "" if pairs.same_problems(verdicts_of(both)) else "other problems, or a control left some out"


def _graphs(found: Found) -> Iterator[str]:
    """The measures of answers that read several drafts."""
    graphs = [
        ([run, what.split, str(what.rounds)], [one for _, one in by_seed.values()])
        for (run, what), by_seed in found.items()
        if all("graph" in one for _, one in by_seed.values())
    ]
    if graphs:
        yield aggregations.table(["runs", "test split", "rounds"], graphs)
        yield aggregations.NOTE
