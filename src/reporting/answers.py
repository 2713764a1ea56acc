"""Tables beside the accuracies: how answers end, how far vote shares can be trusted, and what ``keep_best`` chose."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from src.evaluation.statistics import Interval
from src.reporting.runs import Group, Run
from src.reporting.tables import combine, percent
from src.utils import tables
from src.utils.floor import FLOOR, change_is_below, marked

ENDINGS = ("right", "right_of_stated", "wrong", "changed_to_wrong", "unanswered", "truncated")

GUESSES = {"stated": "same answer", "elsewhere": "right elsewhere"}
"""Measures of guessing, with their headings."""

NOTE = (
    "Shares of answers in %, base → trained, means over seeds. Right of stated: the accuracy among answers that state "
    "one; where only the share of right answers rises, training taught to state an answer. Changed to wrong: an "
    "earlier round stated a right answer. Unanswered and truncated: no answer was stated, in the second case because "
    "the token budget ended. Vote error: the expected calibration error of the share of votes for the winning answer, "
    "taken as its probability of being right, in points."
)
GUESSED = (
    "Same answer: the share of answers that state the policy's most frequent one. Right elsewhere: the accuracy on "
    "problems where that answer is wrong; if it falls while the first rises, training taught a guess."
)
KEPT = (
    "The reported weights are those with the best validation accuracy (evaluation.keep_best). Optimism: that accuracy "
    "minus the accuracy of fresh answers to the same problems, in points, with the 95 % interval of the difference on "
    "the same problems; the best of several noisy accuracies is too high on average. Differences on the test splits "
    "are the reported weights minus the last ones, in points, with 95 % intervals; no choice was made on these splits."
)
OLDER = "In runs of older versions, the interval of a mean optimism is the wider one of the fresh answers."
GREEDY = (
    'Fresh answers and optimism are "-" where evaluation.temperature=0: greedy answers are the same answers again, so '
    "the optimism is not measurable."
)


def markdown(groups: Iterable[Group]) -> str:
    """How answers end, one row per group, test split and number of rounds; empty for runs of older versions."""
    groups, rows = list(groups), []
    tested = [one for group in groups for run in group.runs for one in run.evaluations("after").values()]
    guesses = GUESSES if any(one.get("repeated") for one in tested) else {}
    names = {name for group in groups for name in group.runs[0].evaluations("after")}
    for group in groups:
        for name in group.runs[0].evaluations("after"):
            before, after = (
                [run.evaluations(part).get(name, {}) for run in group.runs] for part in ("before", "after")
            )
            if all("attempts" in one for one in after):
                cells = [_moved(before, after, "attempts", ending) for ending in ENDINGS]
                cells.append(_moved(before, after, "vote_calibration", "error"))
                cells += [_moved(before, after, "repeated", key) for key in guesses]
                rows.append([group.label, name.label(names), str(name.rounds), *cells])
    heads = ["runs", "test split", "rounds", *(ending.replace("_", " ") for ending in ENDINGS), "vote error"]
    note = f"{NOTE} {GUESSED}" if guesses else NOTE
    return f"{tables.labelled([*heads, *guesses.values()], rows)}\n\n{note}\n" if rows else ""


def _moved(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], part: str, key: str) -> str:
    """A mean over seeds, before and after training; empty where a seed has no such number."""
    found: list[list[Any]] = [[(one.get(part) or {}).get(key) for one in side] for side in (before, after)]
    return " → ".join(f"{100 * statistics.fmean(values):.1f}" for values in found if None not in values)


def kept(groups: Iterable[Group]) -> str:
    """What runs with ``keep_best`` chose, beside their last weights; empty without such runs."""
    rows, notes = [], dict.fromkeys([KEPT])
    for group in groups:
        chosen = [run for run in group.runs if "optimism" in (run.summary.get("best") or {})]
        rows += [[group.label, str(run.seed), *_chosen(run)] for run in chosen]
        values = [value for run in chosen if (value := _optimism(run)) is not None]
        notes |= dict.fromkeys([GREEDY] if len(values) < len(chosen) else [])
        notes |= dict.fromkeys([OLDER] if any(_optimism(run) and not _paired(run) for run in chosen) else [])
        notes |= dict.fromkeys([FLOOR] if any(below for run in chosen for *_, below in _moved_by_choice(run)) else [])
        if len(values) > 1:
            rows.append([group.label, "mean", "", "", "", percent(combine(values, -1, 1), "+"), ""])
    heads = ["runs", "seed", "best step", "validation", "fresh answers", "optimism", "best minus last on test splits"]
    return f"{tables.labelled(heads, rows)}\n\n{' '.join(notes)}\n" if rows else ""


def _paired(run: Run) -> bool:
    """Whether the summary has the interval of the optimism over problems; those of older versions have not."""
    return "optimism_low" in run.summary["best"]


def _optimism(run: Run) -> Interval | None:
    """The optimism of the choice of weights with its interval over problems; ``None`` if answers are greedy.

    Summaries of older versions have no interval of the difference, only the wider one of the fresh answers, and an
    optimism of 0 for greedy answers.
    """
    best = run.summary["best"]
    if best["optimism"] is None or any(one.get("temperature") == 0 for one in run.evaluations("after").values()):
        return None
    if _paired(run):
        return Interval(best["optimism"], best["optimism_low"], best["optimism_high"])
    return Interval(best["optimism"], best["accuracy"] - best["fresh_high"], best["accuracy"] - best["fresh_low"])


def _chosen(run: Run) -> list[str]:
    best, optimism = run.summary["best"], _optimism(run)
    tests = [f"{test}: {marked(percent(change, '+'), below)}" for test, change, below in _moved_by_choice(run)]
    return [
        str(best["step"]),
        f"{100 * best['accuracy']:.1f}",
        percent(Interval(best["fresh_accuracy"], best["fresh_low"], best["fresh_high"]) if optimism else None),
        percent(optimism, "+") if optimism is None or _paired(run) else f"{100 * optimism.estimate:+.1f}",
        "; ".join(tests) or "the last step is the best",
    ]


def _moved_by_choice(run: Run) -> Iterator[tuple[str, Interval, bool]]:
    """Each test, the best weights' accuracy minus the last ones', and whether that is below the measurement floor."""
    last, best, changes = (run.evaluations(part) for part in ("last", "after", "last_to_best"))
    for name, one in changes.items():
        change = Interval(one["estimate"], one["low"], one["high"])
        below = change_is_below(one, last.get(name), best.get(name))
        yield f"{name.label(changes)}, {name.rounds}", change, below
