"""The planned and the other comparisons of a study's runs, and why planned ones have no row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from src.reporting import pairs
from src.reporting.evaluations import Name, rebuilt_verdicts
from src.reporting.runs import Group
from src.studies.registering import TAKEN_OUT, UNPLANNED, Plan
from src.studies.settings import BASE, Study
from src.utils.tables import counted

Found = Mapping[tuple[str, Name], Mapping[int, tuple[Any, Mapping[str, Any]]]]
"""By name of the run and evaluation: for each seed, the directory and the summary of the evaluation."""

SHAPE = ("responses", "trajectories", "branching")
"""Settings of a strategy that say how many answers are sampled, in training or in an evaluation."""


class Compared(NamedTuple):
    """The rows of a table of comparisons, and the reasons why others are missing."""

    rows: list[pairs.Pair]
    missing: list[str]


def comparisons(study: Study, plan: Plan, groups: Sequence[Group], evaluations: Mapping[str, Found]) -> Iterator[str]:
    """The tables of planned comparisons and of all others, each adjusted for its own number of comparisons.

    Planned are those of the registered plan, with its seeds, whatever ``study`` has changed since. Runs are compared
    with the policy before training only if the plan or ``study`` says so.
    """

    def planned(chosen: Sequence[Group]) -> Compared:
        return of_groups(study, plan, {group.label: group for group in chosen}, evaluations)

    yield from planned_tables(planned([with_seeds(group, plan.seeds) for group in groups]), "## Planned comparisons")
    if more := beyond(plan, (run.seed for group in groups for run in group.runs)):
        yield from planned_tables(planned(groups), f"### The same with {more}", gaps=False)
    others = list(_others(study, plan, {group.label: group for group in groups}, evaluations))
    if others:
        yield "## Comparisons that were not planned"
        yield "They suggest questions for another study; they answer none."
        yield pairs.markdown(pairs.adjusted(others))


def planned_tables(found: Compared, title: str, gaps: bool = True) -> Iterator[str]:
    """A table of planned comparisons, and what it lacks; nothing if there is neither."""
    if found.rows or (gaps and found.missing):
        yield title
    if found.rows:
        yield pairs.markdown(pairs.adjusted(found.rows))
    if gaps and found.missing:
        yield "**Not compared:**\n\n" + "\n".join(f"- {reason}" for reason in found.missing)


def beyond(plan: Plan, seeds: Iterable[int]) -> str:
    """The seeds that the registered plan does not have, in words; empty if there are none."""
    added = sorted(set(seeds) - set(plan.seeds)) if plan.seeds is not None else []
    if not added:
        return ""
    plural = len(added) > 1
    return f"seed{'s' * plural} {', '.join(map(str, added))}, which {'were' if plural else 'was'} not planned"


def with_seeds(group: Group, seeds: Sequence[int] | None) -> Group:
    """The runs of a group with these seeds; all for ``None``."""
    return replace(group, runs=tuple(run for run in group.runs if seeds is None or run.seed in seeds))


def of_groups(study: Study, plan: Plan, named: Mapping[str, Group], evaluations: Mapping[str, Found]) -> Compared:
    """The comparisons of the registered plan among groups of runs by their names in reports."""
    rows, missing = list[pairs.Pair](), list[str]()
    evaluations = {title: found for title, found in evaluations.items() if plan.plans_evaluation(title, study)}
    for first, second in plan.comparisons:
        one, other = (plan.registered_as(name, study) for name in (first, second))
        lost = [
            name for name in (one, other) if name != BASE and not name.startswith(f"{BASE} (") and name not in named
        ]
        if gone := [name.removesuffix(TAKEN_OUT) for name in lost if name.endswith(TAKEN_OUT)]:
            missing.append(f"{first} with {second}: {' and '.join(gone)} taken out, with no finished run")
        if lost:
            continue  # what the study still plans is listed as not run
        found = against_base(evaluations, named[other], one) if first == BASE else between(named[one], named[other])
        rows += found.rows
        missing += found.missing
    return Compared(rows, missing)


def _others(
    study: Study, plan: Plan, named: Mapping[str, Group], evaluations: Mapping[str, Found]
) -> Iterator[pairs.Pair]:
    """The comparisons that were not planned: with the policy before training, and of all other pairs of runs."""
    known = {frozenset(plan.registered_as(name, study) for name in pair) for pair in plan.comparisons}
    for first, second in study.comparisons:
        one, other = plan.named(first, study), plan.named(second, study)
        if first == BASE and other in named:
            known_pair = frozenset((one, other)) in known
            later = {
                title: {(policy.removesuffix(UNPLANNED), test): by_seed for (policy, test), by_seed in found.items()}
                for title, found in evaluations.items()
                if not (known_pair and plan.plans_evaluation(title, study))
            }
            yield from against_base(later, named[other], one.removesuffix(UNPLANNED)).rows
    for one, other in itertools.combinations(named, 2):
        if frozenset((one, other)) not in known:
            yield from pairs.between(named[one], named[other])


def between(first: Group, second: Group) -> Compared:
    """The comparisons of two groups of runs, one for each test that both answered."""
    who = f"{_short(first.label)} with {_short(second.label)}"
    common = {run.seed for run in first.runs} & {run.seed for run in second.runs}
    if not common:
        return Compared([], [f"{who}: no seed in common"])
    rows = list(pairs.between(first, second))
    one, other = (
        next(run for run in group.runs if run.seed in common).evaluations("after") for group in (first, second)
    )
    tests = {
        label: tuple(group.label for group, own in ((first, one), (second, other)) if name in own)
        for name, label in _labels(one, other).items()
    }
    have = {(row.split, row.rounds) for row in rows}
    return Compared(rows, _lacking(who, {label: of for label, of in tests.items() if label not in have}))


def _labels(first: Mapping[Name, Any], second: Mapping[Name, Any]) -> dict[Name, tuple[str, int]]:
    """Test split and number of rounds of all evaluations, as rows of tables name them."""
    common = [name for name in first if name in second]
    every = dict.fromkeys([*first, *second])
    return {name: (name.label(common if name in common else every), name.rounds) for name in every}


def where(split: str, rounds: int) -> str:
    """A test in words."""
    return f"{split} over {counted(rounds, 'round')}"


def _lacking(who: str, tests: Mapping[tuple[str, int], tuple[str, ...]]) -> list[str]:
    """A line on the tests without a comparison; ``tests`` says which of two groups answered each."""
    reasons: dict[str, list[str]] = {}
    for (split, rounds), answered in tests.items():
        reason = "other problems" if len(answered) == 2 else f"only {_short(answered[0])} was tested"
        reasons.setdefault(reason, []).append(where(split, rounds))
    return [f"{who}: " + "; ".join(f"{', '.join(tests)} ({why})" for why, tests in reasons.items())] if reasons else []


def _short(label: str) -> str:
    return label.removesuffix(UNPLANNED)


def against_base(evaluations: Mapping[str, Found], group: Group, base: str = BASE) -> Compared:
    """The comparisons of trained runs with the policies that they started from, on the tests that both answered.

    Evaluations of ``base`` count if they are of the same weights as the runs started from, and of the same protocol. Of
    several, each has a row that names it.
    """
    rows: dict[Name, list[tuple[str, pairs.Pair]]] = {}
    refused: dict[Name, list[str]] = {}
    for title, found in evaluations.items():
        for (policy, test), by_seed in found.items():
            both = [
                (by_seed[run.seed][1], after)
                for run in group.runs
                if run.seed in by_seed and (after := run.evaluations("after").get(test)) is not None
            ]
            if policy != base or not both:
                continue
            if reason := not_comparable(both):
                refused.setdefault(test, []).append(f"evaluation {title}: {reason}")
                continue
            row = pairs.pair((test.split, test.rounds), (base, group.label), verdicts_of(both), None, both)
            rows.setdefault(test, []).append((title, row))
    tests = dict.fromkeys(name for run in group.runs for name in run.evaluations("after"))
    lines = [
        f"{base} with {_short(group.label)}: {where(test.split, test.rounds)} "
        f"({'; '.join(refused.get(test, [f'no evaluation of {base} with these seeds']))})"
        for test in tests
        if test not in rows
    ]
    several = {test for test, own in rows.items() if len(own) > 1}
    named = [
        replace(row, first=f"{base} ({title})") if test in several else row
        for test, own in rows.items()
        for title, row in own
    ]
    return Compared(named, lines)


def not_comparable(both: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """Why evaluations before and after training are not comparable; empty if they are."""
    if any(before.get("base_sha256") != after.get("base_sha256") for before, after in both):
        return "of other weights than the runs started from"
    if differing := sorted({key for before, after in both for key in other_protocol(before, after)}):
        return f"another protocol, {', '.join(differing)}"
    return "" if pairs.same_problems(verdicts_of(both)) else "other problems"


def other_protocol(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The settings that decide answers, other than weights and problems, in which two evaluations differ.

    The number of samples may differ.
    """
    one, other = (_protocol(summary) for summary in (before, after))
    yield from (key for key in {*one, *other} if one.get(key) != other.get(key))


def _protocol(summary: Mapping[str, Any]) -> dict[str, Any]:
    decided = summary.get("decided_by", {})
    strategy = {f"rounds.{key}": value for key, value in decided.get("strategy", {}).items() if key not in SHAPE}
    parts = ("precision", "seed", "verifiers", "judging", "engine", "control")
    return {**strategy, **{key: decided.get(key) for key in parts}}


def verdicts_of(
    both: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> list[tuple[pairs.Verdicts, pairs.Verdicts]]:
    """The verdicts on each problem of pairs of evaluations."""
    return [(rebuilt_verdicts(before), rebuilt_verdicts(after)) for before, after in both]
