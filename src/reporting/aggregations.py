"""The table of aggregations: how answers depend on the drafts that they read, with and without controls."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from src.evaluation.statistics import Interval
from src.reporting.evaluations import Name
from src.reporting.runs import Group, Run
from src.reporting.tables import combine, percent
from src.utils import tables

NOTE = (
    "After training, in %, with 95 % intervals clustered by problem; with several seeds, means with intervals as in "
    "results.md. Drafts read: as the policy wrote them, or by a control of src.evaluate, where problems without enough "
    "right or wrong drafts are left out. All wrong, right: the share of right aggregations among those whose sources "
    "are all wrong. Some right, wrong: the share of wrong aggregations among those with a right source. Only source "
    "right: the accuracy of aggregations with one right source, by its place in the prompt. Draft vote: the accuracy "
    "of the most frequent answer of as many drafts as fit into the tokens of an answer, or as were sampled if these "
    'are fewer; their number is in round brackets. "-": no such case.'
)


def markdown(groups: Iterable[Group]) -> str:
    """One row per group, test split, number of rounds and control; empty if no prompt quotes several turns."""
    groups, found = list(groups), []
    names = {name for group in groups for name in group.runs[0].evaluations("after")}
    for group in groups:
        for (name, read), summaries in _evaluations(group):
            found.append(([group.label, name.label(names), str(name.rounds), read], summaries))
    text = table(("runs", "test split", "rounds", "drafts read"), found)
    return f"{text}\n\n{NOTE}\n" if text else ""


def table(heads: Sequence[str], found: Sequence[tuple[Sequence[str], Sequence[Mapping[str, Any]]]]) -> str:
    """One row for each evaluation: the cells under ``heads``, and the measures of its summaries, one of each seed."""
    if not found:
        return ""
    most = max(len(one["graph"]["by_position"]) for _, summaries in found for one in summaries)
    places = [str(place + 1) for place in range(most)]
    rows = [[*about, *_cells(summaries, places)] for about, summaries in found]
    measures = (
        *("accuracy", "problems", "tokens in sequence", "tokens per answer", "draft vote", "all wrong, right"),
        *("some right, wrong", *(f"only source {place} right" for place in places)),
    )
    return tables.labelled([*heads, *measures], rows)


def _evaluations(group: Group) -> Iterator[tuple[tuple[Name, str], list[Mapping[str, Any]]]]:
    """Name, drafts that were read, and the summary of each run; those that all runs of the group have."""
    of_runs = [dict(_of_run(run)) for run in group.runs]
    for key in of_runs[0]:
        if all(key in own for own in of_runs):
            yield key, [own[key] for own in of_runs]


def _of_run(run: Run) -> Iterator[tuple[tuple[Name, str], Mapping[str, Any]]]:
    """The run's evaluations in which prompts quote several turns, each followed by its controls.

    A control of an evaluation differs from it in the drafts that are read, and in nothing else that decides the result.
    """
    own = {name: one for name, one in run.evaluations("after").items() if "graph" in one}
    files = [
        file
        for step in sorted({one["step"] for one in own.values()})
        for file in sorted((run.path / "evaluation" / f"step_{step}").glob("*.json"))
    ]
    others = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for name, summary in own.items():
        yield (name, "as written"), summary
        controls = {}
        for other in others:
            decided = dict(other.get("decided_by", {}))
            if decided.pop("control", None) is not None and decided == summary["decided_by"]:
                control = other["control"]
                read = control["sources"].replace("_", " ") + (", by another run" if control["drafts"] else "")
                controls[read] = other
        yield from (((name, read), other) for read, other in sorted(controls.items()))


def _cells(found: Sequence[Mapping[str, Any]], places: Sequence[str]) -> list[str]:
    graphs = [one["graph"] for one in found]
    votes = [graph["draft_vote"] for graph in graphs]
    vote = "-"
    if None not in votes:
        vote = f"{_percent(votes, 'accuracy')} ({statistics.fmean(one['drafts'] for one in votes):.1f})"
    return [
        _percent(found, "accuracy"),
        _counts(found),
        f"{statistics.fmean(graph['sequential_tokens'] for graph in graphs):.1f}",
        f"{statistics.fmean(one['tokens_per_answer'] for one in found):.1f}",
        vote,
        *(_percent([graph[name] for graph in graphs]) for name in ("right_if_all_wrong", "wrong_if_some_right")),
        *(_percent([graph["by_position"].get(place) for graph in graphs]) for place in places),
    ]


def _counts(found: Sequence[Mapping[str, Any]]) -> str:
    """Number of problems, and of how many if some are left out; a mean over runs."""
    covered = statistics.fmean(one["problems"] for one in found)
    every = statistics.fmean(one.get("control", one)["problems"] for one in found)
    return f"{covered:g}" if covered == every else f"{covered:g} of {every:g}"


def _percent(found: Sequence[Mapping[str, Any] | None], estimate: str = "estimate") -> str:
    """A mean over runs with its interval; "-" if it is undefined in one of them."""
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return "-"
    return percent(combine([Interval(one[estimate], one["low"], one["high"]) for one in known], 0, 1))
