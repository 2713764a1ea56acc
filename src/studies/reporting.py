"""The report of a study: its plan, tables of planned and of other comparisons, and what was not run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from src.reporting import aggregations, answers, efficiency, plots, tables, variances
from src.reporting.runs import Group, read_run
from src.studies import changes, dropping, equal_tokens, figures, further, hours
from src.studies.comparing import comparisons
from src.studies.jobs import Job
from src.studies.registering import UNPLANNED, Plan
from src.studies.settings import Study
from src.utils import tables as layout
from src.utils.files import write_text


def write_report(name: str, study: Study, plan: Plan, jobs: Sequence[Job], folder: Path) -> str:
    """Write ``report.md``, ``results.csv`` and the figures of a study. Returns a line that says what is there."""
    groups, evaluations = groups_of(study, plan, jobs), further.done(study, plan, jobs)
    parts = [f"# {name}", study.question, *_plan(study, plan, jobs, hours.read(folder))]
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
            plots.save(figure, folder / f"evaluation_{re.sub('[^A-Za-z0-9_.-]+', '-', title).strip('-')}.png")
    if (figure := equal_tokens.at_equal_tokens(evaluations)) is not None:
        plots.save(figure, folder / "equal_tokens.png")
    write_text(folder / "report.md", "\n\n".join(part.strip("\n") for part in parts) + "\n")
    done = sum(job.complete for job in jobs)
    return f"{done} of {len(jobs)} jobs are done; the report is {folder / 'report.md'}"


def groups_of(study: Study, plan: Plan, jobs: Sequence[Job]) -> list[Group]:
    """The complete runs by name, in the order of the plan; what was not planned, or taken out since, is marked."""
    done: dict[str, list[Job]] = {name: [] for name in study.runs}
    for job in jobs:
        if job.kind == "train" and job.complete:
            done.setdefault(job.run, []).append(job)
    return [
        Group(
            plan.named(name, study) if name in study.runs else name,
            tuple(sorted((read_run(job.directory) for job in own), key=lambda run: run.seed)),
        )
        for name, own in done.items()
        if own
    ]


def _plan(study: Study, plan: Plan, jobs: Sequence[Job], measured: hours.Hours | None) -> Iterator[str]:
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
    if measured is None:
        used = f"Training so far: {hours.of_trainings(jobs):.2f} hours{planned}."
    else:
        used = f"Its jobs took {measured.total:.2f} hours, warm-ups and evaluations included{planned}."
    yield (f"Registered on {plan.registered}, {when}. Seeds {seeds}. The study ends {rule}. {used}")
    if changed := list(changes.amendments(plan)):
        yield "**The plan changed after its registration:**\n\n" + "\n".join(changed)
    yield from dropping.in_words(plan, study, jobs)
    missing: dict[str, list[str]] = {}
    for job in jobs:
        if not job.complete:
            missing.setdefault(job.label.rpartition(", ")[0], []).append(str(job.seed))
    if missing:
        lines = [f"- {what}, seed{'s' * (len(which) > 1)} {', '.join(which)}" for what, which in missing.items()]
        yield "**Not run:**\n\n" + "\n".join(lines)


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
