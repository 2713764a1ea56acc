"""Figure of further evaluations that search in different ways: accuracy against generated tokens per problem."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from src.evaluation.statistics import Interval, wilson
from src.reporting import plots
from src.reporting import tables as results
from src.reporting.evaluations import Name
from src.reporting.looks import look
from src.studies.comparing import Found
from src.studies.figures import in_words
from src.utils.tables import counted

PANEL = 1.9
"""Height of a panel in inches."""

TITLE = "Accuracy at equal tokens, 95 % intervals (votes: over seeds, or over problems if all seeds are equal)"


class Method(NamedTuple):
    """A way to answer: a further evaluation at one of its numbers of rounds."""

    evaluation: str
    rounds: int


class Split(NamedTuple):
    """The problems of a test split; with other problems, e.g. fewer, it is another one."""

    name: str
    problems: int
    sha256: str


class Answered(NamedTuple):
    """An evaluation of a policy: its method, the test problems, and a summary for each seed."""

    policy: str
    method: Method
    split: Split
    summaries: Sequence[Mapping[str, Any]]


def at_equal_tokens(evaluations: Mapping[str, Found]) -> Figure | None:
    """Accuracy against generated tokens per problem: a row for each policy, a column for each test split.

    Votes of 1, 2, 4, … answers are joined by lines. Drawn are the splits on which a policy was evaluated in ways that
    differ in their search (``rounds.search``) or in their number of samples; ``None`` if there are none.
    """
    every = list(_answered(evaluations))
    splits = [split for split in dict.fromkeys(one.split for one in every) if _searched(every, split)]
    drawn = [one for one in every if one.split in splits]
    if not drawn:
        return None
    policies = list(dict.fromkeys(one.policy for one in drawn))
    methods = list(dict.fromkeys(one.method for one in drawn))
    with plots.style():
        height = PANEL * len(policies) + plots.LINE * len(methods) + 0.5
        figure = Figure(figsize=(plots.WIDTH, height), layout="constrained")
        grid = figure.subplots(len(policies), len(splits), sharex=True, sharey="col", squeeze=False)
        for policy, row in zip(policies, grid, strict=True):
            for split, axes in zip(splits, row, strict=True):
                own = [one for one in drawn if (one.policy, one.split) == (policy, split)]
                if not own:
                    axes.set_axis_off()
                    continue
                for one in own:
                    _draw(axes, one, methods.index(one.method))
                seeds = max(len(one.summaries) for one in own)
                axes.set_title(f"{plots.named(in_words(policy), seeds)}: {split.name}, {split.problems} problems")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}"))
            row[0].set_ylabel("accuracy (%)")
        for axes in grid[-1]:
            axes.set(xlabel="generated tokens per problem (log scale)", xscale="log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        figure.suptitle(TITLE, x=0.01, ha="left", fontsize=10.5)
        plots.legend(figure, [plots.line(_name(method, drawn), index) for index, method in enumerate(methods)])
    return figure


def _answered(evaluations: Mapping[str, Found]) -> Iterator[Answered]:
    names = {what for found in evaluations.values() for _, what in found}
    for title, found in evaluations.items():
        for (policy, what), by_seed in found.items():
            summaries = [one for _, one in by_seed.values()]
            yield Answered(policy, Method(title, what.rounds), _split(what, names, summaries[0]), summaries)


def _split(what: Name, names: Collection[Name], summary: Mapping[str, Any]) -> Split:
    sha256 = summary.get("decided_by", {}).get("problems", {}).get("sha256", "")
    return Split(what.label(names), summary["problems"], sha256)


def _searched(every: Iterable[Answered], split: Split) -> bool:
    """Whether a policy was evaluated on a split with different searches or different numbers of samples."""
    ways: dict[str, set[tuple[int, str]]] = {}
    for one in every:
        if one.split == split:
            summary = one.summaries[0]
            search = summary.get("decided_by", {}).get("strategy", {}).get("search")
            ways.setdefault(one.policy, set()).add((summary["samples"], json.dumps(search, sort_keys=True)))
    return any(len(own) > 1 for own in ways.values())


def _draw(axes: Axes, one: Answered, index: int) -> None:
    """Accuracies of votes of 1, 2, 4, … answers with their intervals, at the tokens of these answers."""
    tokens = statistics.fmean(summary["tokens_per_answer"] for summary in one.summaries)
    votes = {count: voted(one.summaries, count) for count in counts(one.summaries[0])}
    at = [count * tokens for count in votes]
    plots.intervals(axes, at, list(votes.values()), markersize=5, elinewidth=0.9, **look(index).line)


def counts(summary: Mapping[str, Any]) -> list[int]:
    """Numbers of votes that are drawn: powers of two, and all samples; 1 if the summary has no such votes."""
    most = summary["samples"] if "votes" in summary else 1
    return sorted({most, *(2**power for power in range(most.bit_length()))})


def voted(summaries: Sequence[Mapping[str, Any]], count: int) -> Interval:
    """Accuracy of votes of ``count`` answers, a mean over seeds, with its 95 % interval.

    One answer has the interval of accuracies. A vote has that of Student's t over seeds; with one seed or without any
    spread between seeds, Wilson's over problems.
    """
    if count == 1:
        return results.over_runs(summaries)
    votes = [one["votes"][str(count)] for one in summaries]
    return results.spread(votes, 0, 1) or wilson(statistics.fmean(votes), summaries[0]["problems"])


def _name(method: Method, drawn: Iterable[Answered]) -> str:
    """A method in the legend, with its rounds and the numbers of votes."""
    votes = max((counts(one.summaries[0]) for one in drawn if one.method == method), key=len)
    shown = f", votes of {', '.join(map(str, votes))} answers" if len(votes) > 1 else ""
    return f"{method.evaluation}: {counted(method.rounds, 'round')}{shown}"
