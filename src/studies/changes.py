"""How the plan of a study changed after its registration, in words."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from src.studies.registering import Plan, definition
from src.studies.settings import BASE, Study

Described = Mapping[str, Any]
"""A study as plain data."""


def amendments(plan: Plan) -> Iterator[str]:
    """The amendments of a plan, old and new, as lines of a Markdown list."""
    before = plan.first
    for amendment in plan.amendments:
        after = amendment["study"]
        yield f"- {amendment['time']}"
        yield from (f"  - {line}" for line in _differences(before, after))
        before = after


def _differences(before: Described, after: Described) -> Iterator[str]:
    for key in sorted({*before, *after} - {"_target_"}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(new, Mapping):
            yield from _entries(key.removesuffix("s"), old or {}, new)
        elif key == "comparisons":
            yield from _pairs(old or [], new or [])
        else:
            yield f"{key}: {_text(old)} → {_text(new)}"


def _entries(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Runs, warm-ups or evaluations that were added, changed or taken out."""
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            yield f"{kind} {name} taken out: {_text(old[name])}"
        elif name not in old:
            yield f"{kind} {name} added: {_text(new[name])}"
        elif old[name] != new[name]:
            yield f"{kind} {name}: {_text(old[name])} → {_text(new[name])}"


def _pairs(old: Sequence[Sequence[str]], new: Sequence[Sequence[str]]) -> Iterator[str]:
    for pair in old:
        if pair not in new:
            yield f"comparison of {pair[0]} with {pair[1]} taken out"
    for pair in new:
        if pair not in old:
            yield f"comparison of {pair[0]} with {pair[1]} added"
    if sorted(map(list, old)) == sorted(map(list, new)):
        yield "comparisons in another order"


def _text(value: Any) -> str:
    """A value of a plan; overrides as they are typed."""
    if isinstance(value, Mapping):
        of = value.get("of")
        return _text(value.get("overrides")) + (f" of {', '.join(of)}" if of is not None else " of all runs")
    if isinstance(value, Sequence) and not isinstance(value, str):
        texts = [str(one) for one in value]
        return f"`{' '.join(texts)}`" if texts else "nothing"
    return "none" if value is None else str(value)


def dropped(plan: Plan, study: Study) -> tuple[dict[Hashable, str], dict[Hashable, str]]:
    """What is no longer in ``study``: of the registered plan, and of the later amendments; each by key, in words."""
    now, registered = _items(study.described()), _items(plan.first)
    later: dict[Hashable, str] = {}
    for amendment in plan.amendments:
        later |= _items(amendment["study"])
    return (
        {key: words for key, words in registered.items() if key not in now},
        {key: words for key, words in later.items() if key not in now and key not in registered},
    )


def _items(described: Described) -> dict[Hashable, str]:
    """The parts of a plan that may be dropped, in words."""
    found: dict[Hashable, str] = {}
    runs = described.get("runs", {})
    for name, overrides in runs.items():
        found["run", name, json.dumps(definition(described, name))] = f"run {name}: {_text(overrides)}"
    for seed in described.get("seeds", ()):
        found["seed", seed] = f"seed {seed}"
    for name, evaluation in described.get("evaluations", {}).items():
        for policy in runs if evaluation["of"] is None else evaluation["of"]:
            key = ("evaluation", name, policy, json.dumps(evaluation["overrides"]))
            found[key] = f"evaluation {name} of {'the policy before training' if policy == BASE else policy}"
    for first, second in described.get("comparisons", ()):
        found["comparison", frozenset((first, second))] = f"comparison of {first} with {second}"
    return found
