"""The report of a study: its plan, tables of planned and of other comparisons, and what was not run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from src.reporting import aggregations, answers, efficiency, pairs, plots, tables, variances
from src.reporting.runs import Group, read_run
from src.studies import figures, further
from src.studies.jobs import Job
from src.studies.registering import UNPLANNED, Plan
from src.studies.running import spent
from src.studies.settings import BASE, Study
from src.utils import tables as layout
from src.utils.files import write_text


def write_report(name: str, study: Study, plan: Plan, jobs: Sequence[Job], folder: Path) -> str:
    """Write ``report.md``, ``results.csv`` and the figures of a study. Returns a line that says what is there."""
    groups, evaluations = groups_of(study, plan, jobs), further.done(study, jobs)
    parts = [f"# {name}", study.question, *_plan(study, plan, jobs)]
    if groups:
        rows = tables.results(groups)
        parts += [
            "## Results",
            tables.markdown(rows),
            *filter(None, [variances.of_groups(groups)]),
            *comparisons(study, plan, groups, evaluations),
        ]
        write_text(folder / "results.csv", tables.comma_separated(rows))
        plots.save(plots.before_after(rows), folder / "before_after.png")
        plots.save(plots.curves(groups), folder / "curves.png")
        if efficiency.enough(groups):
            plots.save(efficiency.efficiency(groups), folder / "efficiency.png")
        more = {
            "How answers end": answers.markdown(groups),
            "Aggregations": aggregations.markdown(groups),
            "Choice of weights": answers.kept(groups),
        }
        for title, text in more.items():
            parts += [f"## {title}", text] if text else []
        parts += _other_verifiers(groups)
    parts += further.tables(study, plan, evaluations, {run.path: run for group in groups for run in group.runs})
    for title, found in evaluations.items():
        if (figure := figures.across(title, found)) is not None:
            plots.save(figure, folder / f"evaluation_{title}.png")
    write_text(folder / "report.md", "\n\n".join(part.strip("\n") for part in parts) + "\n")
    done = sum(job.complete for job in jobs)
    return f"{done} of {len(jobs)} jobs are done; the report is {folder / 'report.md'}"


def groups_of(study: Study, plan: Plan, jobs: Sequence[Job]) -> list[Group]:
    """The complete runs by name, in the order of the plan; what was not planned is marked."""
    found = []
    for name in study.runs:
        own = [job for job in jobs if job.kind == "train" and job.run == name and job.complete]
        if own:
            label = name + ("" if plan.runs(name, study) else UNPLANNED)
            found.append(
                Group(label, tuple(sorted((read_run(job.directory) for job in own), key=lambda run: run.seed)))
            )
    return found


def _plan(study: Study, plan: Plan, jobs: Sequence[Job]) -> Iterator[str]:
    """When the plan was registered, how it changed, and what was not run."""
    added = plan.added_seeds(study)
    seeds = ", ".join(f"{seed}{UNPLANNED * (seed in added)}" for seed in study.seeds)
    when = (
        "before its first run"
        if not plan.before
        else f"when {len(plan.before)} of its runs had been done for other studies"
    )
    rule = "after all runs" if study.stopping == "all runs" else f"before the first run after {study.hours:g} hours"
    planned = f"; planned: {study.hours:g} hours" if study.hours is not None else ""
    yield (
        f"Registered on {plan.registered}, {when}. Seeds {seeds}. The study ends {rule}. "
        f"Training so far: {spent(jobs):.2f} hours{planned}."
    )
    if changes := list(plan.changed()):
        yield "**The plan changed after its registration:**\n\n" + "\n".join(f"- {change}" for change in changes)
    missing: dict[str, list[str]] = {}
    for job in jobs:
        if not job.complete:
            missing.setdefault(job.label.rpartition(", ")[0], []).append(str(job.seed))
    if missing:
        lines = [f"- {what}, seed{'s' * (len(which) > 1)} {', '.join(which)}" for what, which in missing.items()]
        yield "**Not run:**\n\n" + "\n".join(lines)


def comparisons(
    study: Study, plan: Plan, groups: Sequence[Group], evaluations: Mapping[str, further.Found]
) -> Iterator[str]:
    """The tables of planned comparisons and of all others, each adjusted for its own number of comparisons.

    Runs are compared with the policy before training only if the plan says so.
    """
    named = {group.label.removesuffix(UNPLANNED): group for group in groups}
    wanted = [(first, second) for first, second in study.comparisons if plan.compares(first, second)]
    chosen: list[pairs.Pair] = []
    for first, second in wanted:
        if first == BASE and second in named:
            chosen += further.against_base(evaluations, named[second])
        elif first in named and second in named:
            chosen += pairs.between(named[first], named[second])
    if chosen:
        yield "## Planned comparisons"
        yield pairs.markdown(pairs.adjusted(chosen))
    known = {frozenset(names) for names in wanted}
    others = [
        pair
        for first, second in itertools.combinations(named, 2)
        if frozenset((first, second)) not in known
        for pair in pairs.between(named[first], named[second])
    ]
    if others:
        yield "## Comparisons that were not planned"
        yield "They suggest questions for another study; they answer none."
        yield pairs.markdown(pairs.adjusted(others))


def _other_verifiers(groups: Sequence[Group]) -> Iterator[str]:
    """Accuracies by further verifiers (``evaluation.also``)."""
    rows = []
    for group in groups:
        for name in group.runs[0].evaluations("after"):
            found = [run.evaluations("after").get(name, {}).get("also", {}) for run in group.runs]
            for verifier in found[0]:
                if all(verifier in one for one in found):
                    mean = tables.over_runs([one[verifier] for one in found])
                    rows.append([group.label, name.split, str(name.rounds), verifier, tables.percent(mean)])
    if rows:
        yield "## By other verifiers"
        yield layout.markdown(["runs", "test split", "rounds", "verifier", "trained"], rows)
