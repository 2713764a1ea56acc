"""The plot of accuracy against costs: what a run has cost at each validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.reporting.efficiency import efficiency, enough, spent
from src.reporting.pairs import generated
from src.reporting.runs import Group, Run
from src.reporting.series import longest


def run(seed: int, tokens: int, steps: int = 3) -> Run:
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        line: dict[str, Any] = {"step": step, "problems_seen": 8 * step, "tokens/generated": tokens}
        line |= {"time/rollout": 1.0, "time/reward": 0.25, "time/train": 0.5, "time/checkpoint": 9.0}
        accuracy = step / 10 + seed / 100
        low, high = accuracy - 0.05, accuracy + 0.05
        lines.append(line | {"validation/accuracy": accuracy, "validation/low": low, "validation/high": high})
    return Run(Path("run"), seed, "sums", {}, {}, frozenset(), {}, lines)


def test_costs_add_up() -> None:
    one = run(0, 2000)
    assert spent(one, "problems") == {1: 8, 2: 16, 3: 24}
    assert spent(one, "generated tokens (thousands)") == {1: 2, 2: 4, 3: 6}
    assert spent(one, "seconds") == {1: 1.75, 2: 3.5, 3: 5.25}


def test_a_validation_before_training_costs_nothing_and_is_no_step() -> None:
    first = {"step": 0, "problems_seen": 0, "validation/accuracy": 0.1, "validation/low": 0.0, "validation/high": 0.2}
    one = run(0, 2000)
    later = Run(one.path, 0, "sums", {}, {}, frozenset(), {}, [first, *one.metrics])
    assert spent(later, "generated tokens (thousands)") == {0: 0, 1: 2, 2: 4, 3: 6}
    assert spent(later, "seconds") == {0: 0, 1: 1.75, 2: 3.5, 3: 5.25}
    assert (generated(later), longest([Group("a", (later,))])) == (generated(one), 3)
    assert [*efficiency([Group("a", (later,))]).axes[0].lines[0].get_xdata()] == [0, 8, 16, 24]


def test_accuracy_is_drawn_against_the_mean_cost_of_the_seeds() -> None:
    groups = [Group("motif", (run(0, 1000), run(1, 3000))), Group("grpo", (run(0, 500),))]
    figure = efficiency(groups)
    problems, tokens, seconds = figure.axes
    for axes, places in ((problems, [8, 16, 24]), (tokens, [2, 4, 6]), (seconds, [1.75, 3.5, 5.25])):
        motif, _ = axes.lines
        assert [*motif.get_xdata()] == pytest.approx(places)
        assert [*motif.get_ydata()] == pytest.approx([0.105, 0.205, 0.305])
        assert len(axes.collections) == 2, "an interval for each group"
    assert [*tokens.lines[1].get_xdata()] == pytest.approx([0.5, 1, 1.5])


def test_two_validations_are_no_course() -> None:
    assert not enough([Group("a", (run(0, 1, steps=2),))])
    groups = [Group("a", (run(0, 1),)), Group("short", (run(0, 1, steps=2),))]
    assert enough(groups)
    assert [len(line.get_xdata()) for line in efficiency(groups).axes[0].lines] == [3, 2]
