"""The further evaluations of a study: a table of accuracies for each, and its planned comparisons."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.reporting import aggregations, pairs
from src.reporting import tables as results
from src.reporting.evaluations import Name, mean_verdicts
from src.reporting.runs import Group, Run
from src.studies.jobs import Job
from src.studies.registering import UNPLANNED, Plan
from src.studies.settings import BASE, Study
from src.utils import tables as layout

Found = Mapping[tuple[str, Name], Mapping[int, tuple[Path, Mapping[str, Any]]]]
"""By name of the run and evaluation: for each seed, the directory and the summary of the evaluation."""


def done(study: Study, jobs: Sequence[Job]) -> dict[str, Found]:
    """The finished further evaluations by name, in the order of the plan."""
    every: dict[str, Found] = {}
    for name in study.evaluations:
        found: dict[tuple[str, Name], dict[int, tuple[Path, Mapping[str, Any]]]] = {}
        for job in jobs:
            if job.evaluation == name and job.complete:
                for one in json.loads(job.done.read_text(encoding="utf-8")):
                    key = job.run, Name(one["benchmark"], one["split"], one["rounds"])
                    found.setdefault(key, {})[job.seed] = job.directory, one
        if found:
            every[name] = found
    return every


def tables(study: Study, plan: Plan, evaluations: Mapping[str, Found], runs: Mapping[Path, Run]) -> Iterator[str]:
    """The sections of a report on further ``evaluations``; ``runs`` are the trained runs by directory."""
    for name, found in evaluations.items():
        evaluated = plan.evaluates(name, study)
        yield f"## Evaluation: {name}" + ("" if evaluated else UNPLANNED)
        yield _accuracies(found)
        wanted = {pair: evaluated and plan.compares(*pair) for pair in map(tuple, study.comparisons)}
        for title, planned in (("Planned comparisons", True), ("Comparisons that were not planned", False)):
            chosen = [pair for pair, was in wanted.items() if was == planned]
            if compared := list(_comparisons(chosen, found, runs)):
                yield f"### {title}: {name}"
                yield pairs.markdown(pairs.adjusted(compared))
        yield from _graphs(found)


def _accuracies(found: Found) -> str:
    """Means over seeds."""
    rows = []
    for (run, what), by_seed in found.items():
        some = [one for _, one in by_seed.values()]
        votes = [one["majority"] for one in some]
        spread = results.over_seeds(votes, 0, 1) if len(set(votes)) > 1 else None
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


def _comparisons(chosen: Iterable[tuple[str, ...]], found: Found, runs: Mapping[Path, Run]) -> Iterator[pairs.Pair]:
    """The comparisons of trained runs that answered the same problems, with seeds in common."""
    for first, second in chosen:
        for (run, what), before in found.items():
            after = found.get((second, what), {})
            common = sorted(before.keys() & after.keys())
            if run != first or not common:
                continue
            both = [(before[seed], after[seed]) for seed in common]
            verdicts = [(_verdicts(a), _verdicts(b)) for (_, a), (_, b) in both]
            if not _same_problems(verdicts):
                continue  # other problems, or a control left some out
            trained = [(runs[a], runs[b]) for (a, _), (b, _) in both if first != BASE]
            tokens = pairs.more_tokens(trained) if trained else None
            measured = [(a, b) for (_, a), (_, b) in both]
            yield pairs.pair((what.split, what.rounds), (first, second), verdicts, tokens, measured)


def against_base(evaluations: Mapping[str, Found], group: Group) -> Iterator[pairs.Pair]:
    """The comparisons of trained runs with the policies that they started from, on the tests that both answered."""
    for found in evaluations.values():
        for (run, what), by_seed in found.items():
            own = [
                (by_seed[one.seed][1], one.evaluations("after").get(what, {}))
                for one in group.runs
                if one.seed in by_seed
            ]
            verdicts = [(_verdicts(before), _verdicts(after)) for before, after in own]
            if run == BASE and own and _same_problems(verdicts):
                yield pairs.pair((what.split, what.rounds), (BASE, group.label), verdicts, None, own)


def _same_problems(verdicts: Sequence[tuple[pairs.Verdicts, pairs.Verdicts]]) -> bool:
    """Whether all verdicts are on the same problems; false if there are none."""
    problems = verdicts[0][0].keys()
    return bool(problems) and all(one.keys() == problems for two in verdicts for one in two)


def _verdicts(summary: Mapping[str, Any]) -> dict[tuple[str, str], list[float]]:
    return {problem: [mean] for problem, mean in mean_verdicts(summary).items()}


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
