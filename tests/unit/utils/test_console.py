"""Console output at 80 and 120 columns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as RichConsole

from src.utils.console import Console
from src.utils.floor import FLOOR

NUMBERS = {"accuracy": 0.574, "low": 0.552, "high": 0.596, "tokens_per_answer": 36.1, "pass_at": {"1": 0.574, "2": 0.8}}
CHANGE = {"estimate": 0.479, "low": 0.456, "high": 0.501}


def screen(console: Console, width: int, terminal: bool = False) -> io.StringIO:
    """Redirect the console to a buffer ``width`` columns wide."""
    file = io.StringIO()
    console.console = RichConsole(file=file, width=width, force_terminal=terminal, color_system=None)
    console.bars.live.console = console.console
    return file


def summary() -> dict[str, Any]:
    names = [{"benchmark": "chain-sum", "split": "easy-reordered", "rounds": rounds} for rounds in (1, 3)]
    return {
        "evaluations": {
            "before": [{**name, **NUMBERS} for name in names],
            "after": [{**name, **NUMBERS} for name in names],
            "change": [{**name, **CHANGE} for name in names],
        },
        "wall_clock_seconds": 3.0,
    }


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_results_does_not_wrap(width: int) -> None:
    console = Console(3)
    file = screen(console, width)
    console.results(summary(), Path("outputs/run"), "1 + 2 =")
    lines = file.getvalue().splitlines()
    (row,) = [line for line in lines if line.lstrip().startswith("easy-reordered") and " 3 " in line]
    assert "57.4 [55.2, 59.6]" in row
    assert "+47.9 [+45.6, +50.1]" in row
    table = lines[: next(index for index, line in enumerate(lines) if line.startswith("3 s."))]
    assert max(map(len, table)) <= width
    assert ("36.1 -> 36.1" in row) == (width > 100)


@pytest.mark.parametrize(("high", "below"), [(0.5, True), (0.4, False)])
def test_a_change_below_the_measurement_floor_has_the_mark_of_tables(high: float, below: bool) -> None:
    console = Console(3)
    file = screen(console, 80)
    found = summary()
    found["evaluations"]["before"][0]["floor"] = {"estimate": 0.0, "low": 0.0, "high": high}
    console.results(found, Path("outputs/run"), "1 + 2 =")
    first, second = [line.rstrip() for line in file.getvalue().splitlines() if line.lstrip().startswith("easy-")]
    assert first.endswith("+50.1] ~" if below else "+50.1]")
    assert second.endswith("+50.1]"), "the other evaluations measured no floor"
    assert max(map(len, (first, second))) <= 80
    assert (FLOOR in file.getvalue().splitlines()) == below


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_evaluations_does_not_wrap(width: int) -> None:
    console = Console()
    file = screen(console, width)
    name = {"benchmark": "math500-and-more", "split": "test", "rounds": 3}
    result = {**name, **NUMBERS, "majority": 0.6, "problems": 500, "samples": 8}
    changed = {"rounds.n": {"run": 3, "here": 5}}
    console.evaluations([{**result, "changed": changed}], Path("outputs/run/evaluation/step_4"))
    lines = file.getvalue().splitlines()
    (row,) = [line for line in lines if "math500-and-more/test" in line]
    assert "57.4 [55.2, 59.6]" in row
    assert "500 x 8" in row
    assert "changed from the run: rounds.n=5 (in the run: 3)" in lines


def test_evaluations_of_aggregations_have_a_table_of_their_own() -> None:
    console = Console()
    file = screen(console, 80)
    result = {
        "benchmark": "sums",
        "split": "hard",
        "rounds": 2,
        **NUMBERS,
        "majority": 0.6,
        "problems": 5,
        "samples": 8,
    }
    shares = {"right_if_all_wrong": {"estimate": 0.25, "total": 8}, "wrong_if_some_right": None}
    graph = {**shares, "draft_vote": {"accuracy": 0.7}, "sequential_tokens": 12.34}
    control = {"sources": "oracle_wrong", "drafts": None, "problems": 8, "covered": 5}
    console.evaluations([{**result, "graph": graph, "control": control}], Path("outputs/run/evaluation/step_4"))
    lines = file.getvalue().splitlines()
    (row,) = [line.split() for line in lines if "25.0 of 8" in line]
    assert row == ["sums/hard", "2", "25.0", "of", "8", "-", "70.0", "12.3"]
    (left_out,) = [line for line in lines if "control.sources=oracle_wrong" in line]
    assert left_out.startswith("hard: 5 of 8 problems have enough drafts for control.sources=oracle_wrong")


def test_the_bar_shows_step_and_time_left_at_80_columns() -> None:
    console = Console(150)
    file = screen(console, 80, terminal=True)
    console.live = True
    console.bars.disable = False
    console.train(0)
    console.step(
        {"step": 50, "reward": 0.756, "accuracy": 0.656, "validation/accuracy": 0.75, "tokens_per_second": 12763.0}
    )
    console.console.print(console.bars.get_renderable())
    shown = file.getvalue()
    assert "50/150" in shown
    assert "left" in shown
    assert "━" in shown
    assert "reward 0.756" in shown
    assert max(map(len, shown.splitlines())) <= 80
