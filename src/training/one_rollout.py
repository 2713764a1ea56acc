"""One problem's rollout, generated, scored and credited as in a training step, and tables of its turns."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from src.credit.base import CreditRule
from src.rounds.growing import grow
from src.run import Run
from src.training.rollout_files import lines
from src.types import Problem
from src.utils import tables


def one_rollout(run: Run, problem: Problem, credit: CreditRule | None = None) -> dict[str, Any]:
    """The rollout of a problem, as a line of ``rollouts/step_*.jsonl``; no weights are updated.

    The same run and problem give the same turns, so that credit rules can be compared on them; ``credit`` replaces the
    run's rule.
    """
    settings = run.settings
    depth = None if settings.reward.looks_ahead else 1
    with run.policy.gathered():
        rollouts = grow(run.engine, settings.rounds, [problem], run.codec, (settings.seed, "one rollout"), depth)
    scores = settings.reward.score(rollouts, next(iter(run.scorers.values())))
    credited = (credit or settings.credit).rows(rollouts, scores, settings.algorithm.advantages)
    (line,) = lines(rollouts, scores, credited, run.codec, tokens=True)
    return line


def credit_table(tree: Mapping[str, Any]) -> str:
    """A Markdown table of a rollout's turns: progress read, answer's verdict, value, siblings' mean, advantage."""
    turns = tree["turns"]
    values: dict[tuple[int, ...], list[float]] = {}
    for turn in turns:
        if turn["value"] is not None:
            values.setdefault(tuple(turn["parent"]), []).append(turn["value"])
    heads = ["turn", "round", "progress in the prompt", "tokens", "right below", "value", "siblings' mean", "advantage"]
    return tables.markdown(heads, [_row(turn, values.get(tuple(turn["parent"]), [])) for turn in turns])


def _row(turn: Mapping[str, Any], siblings: list[float]) -> list[str]:
    name = ".".join(str(place + 1) for place in turn["path"])
    mean = statistics.fmean(siblings) if siblings else None
    numbers = [_number(number) for number in (turn["correct"], turn["value"], mean)]
    advantage = "does not learn" if turn["advantage"] is None else f"{turn['advantage']:+.2f}"
    return [name, str(turn["round"]), turn["carried"] or "-", str(turn["tokens"]), *numbers, advantage]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
