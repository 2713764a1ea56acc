"""Data of the page of rollouts: rollouts of training and answers of evaluations, in one form."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from src.reporting.evaluations import Name, record_files
from src.reporting.looks import look
from src.reporting.runs import Group, Run
from src.utils.files import read_jsonl
from src.utils.tables import counted

PARTS = {"before": "before training", "after": "after training"}


def page_data(groups: Sequence[Group], steps: int, trees: int, problems: int, seeds: int = 1) -> dict[str, Any]:
    """Collect the rollouts of each group's first ``seeds`` seeds.

    Each rollout belongs to one of ``places``: the training of a run, or one of its evaluations before or after
    training. Two places can be compared on the problems that they share. ``letter`` is that of the group in the
    charts; ``terms`` are the names of reward terms. The ``name`` of a place is the same in all reports: it is made of
    the run's settings and seed, and of the evaluation, with ``before`` or ``after`` last.
    """
    places: list[dict[str, Any]] = []
    rollouts: list[dict[str, Any]] = []

    def add(about: Mapping[str, Any], name: str, where: str, found: Sequence[dict[str, Any]]) -> None:
        if found:
            rollouts.extend({"place": len(places), **rollout} for rollout in found)
            places.append({**about, "name": name, "where": where})

    for about, run in _runs(groups, seeds):
        key = f"{hashlib.sha256(repr(run.identity).encode()).hexdigest()[:8]}.{run.seed}"
        chosen = spread(list(run.rollouts()), steps)
        trained = [_rollout(tree, step) for step in chosen for tree in logged(run, step)[:trees]]
        add(about, f"{key}.training", "training step", trained)
        for name, part in itertools.product(run.evaluations("after"), PARTS):
            names = list(run.evaluations("after"))
            where = f"{name.label(names)}, {counted(name.rounds, 'round')}, {PARTS[part]}"
            place = f"{key}.{name.benchmark}.{name.split}.{name.rounds}.{part}"
            add(about, place, where, [answer(record) for record in _records(run, part, name, problems)])
    terms = {term: None for rollout in rollouts for turn in rollout["turns"] for term in turn["scores"]}
    return {"places": places, "terms": list(terms), "rollouts": rollouts}


def _runs(groups: Sequence[Group], seeds: int) -> Iterator[tuple[dict[str, Any], Run]]:
    """The first runs of each group, with the letter of the group, the seed and the label."""
    for index, group in enumerate(groups):
        for run in group.runs[:seeds]:
            label = f"{group.label or run.path.name}, seed {run.seed}"
            yield {"letter": look(index).letter, "seed": run.seed, "run": label}, run


def logged(run: Run, step: int) -> list[dict[str, Any]]:
    """Read the rollouts of a logged step."""
    return list(read_jsonl(run.rollouts()[step]))


def spread(values: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the values, evenly spaced; includes the last value and, from ``count=2`` on, the first."""
    if len(values) <= count:
        return list(values)
    if count == 1:
        return [values[-1]]
    return [values[round(index * (len(values) - 1) / (count - 1))] for index in range(count)]


def numbered(path: Sequence[int]) -> str:
    """A turn's path for readers, counted from 1: ``(0, 2)`` is "1.3"."""
    return ".".join(str(place + 1) for place in path)


def sources(turn: Mapping[str, Any]) -> list[list[int]]:
    """Paths of the turns that a recorded turn quotes; older files record chains and trees only, without this key."""
    found: list[list[int]] = turn.get("sources", [turn["path"][:-1]] if turn["path"][1:] else [])
    return found


def _rollout(tree: Mapping[str, Any], step: int) -> dict[str, Any]:
    """A rollout of training."""
    index = {tuple(turn["path"]): place for place, turn in enumerate(tree["turns"])}
    turns = [
        {
            "number": numbered(turn["path"]),
            "prompt": numbered(turn["path"][:-1]),
            "round": turn["round"],
            "sources": [index[tuple(source)] for source in sources(turn)],
            "text": turn["text"],
            "carried": turn["carried"],
            "cut": turn["carried_cut"],
            "tokens": turn["tokens"],
            "status": turn["status"],
            "writer": turn["writer"],
            "probe": turn.get("probe", False),
            "scores": {name: value for name, value in (turn["scores"] or {}).items() if value is not None},
            "value": turn["value"],
            "correct": turn["correct"],
            "advantage": turn["advantage"],
            **{name: turn[name] for name in ("pieces", "segments") if name in turn},
        }
        for turn in tree["turns"]
    ]
    problem = tree["problem"]
    return {"step": step, **{name: problem[name] for name in ("id", "question", "answer")}, "turns": turns}


def answer(record: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of an evaluation. Only its last turn has a verdict."""
    paths = record.get("paths") or [[0] * (place + 1) for place in range(len(record["texts"]))]
    quoted = record.get("sources") or [[path[:-1]] if path[1:] else [] for path in paths]
    columns = zip(*(record[name] for name in ("texts", "carried", "tokens", "statuses")), strict=True)
    turns = [
        {
            **{"path": path, "sources": places, "round": len(path), "writer": "policy"},
            **{"text": text, "carried": carried, "carried_cut": False, "tokens": tokens, "status": status},
            **{"scores": None, "value": None, "correct": None, "advantage": None},
        }
        for path, places, (text, carried, tokens, status) in zip(paths, quoted, columns, strict=True)
    ]
    turns[-1]["correct"] = record["correct"]
    problem = {"id": record["id"], "question": record["question"], "answer": record["gold"]}
    return {**_rollout({"problem": problem, "turns": turns}, 0), "step": None}


def _records(run: Run, part: str, name: Name, problems: int) -> Iterator[Mapping[str, Any]]:
    """The records of an evaluation on its first problems; none if it was not made or its records are deleted."""
    summary = run.evaluations(part).get(name)
    if summary is None:
        return
    first: set[str] = set()
    for file in record_files(run.path / "evaluation" / f"step_{summary['step']}", name, summary):
        for record in read_jsonl(file):
            if record["id"] not in first and len(first) == problems:
                return
            first.add(record["id"])
            yield record
