"""Figures of further evaluations: what is on the axis, and which numbers are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.reporting.evaluations import Name
from src.studies.figures import across

PLACE = Path("run")


def summary(accuracy: float, problems: int = 8) -> dict[str, Any]:
    return {"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "problems": problems}


def lines(axes: Any) -> list[list[float]]:
    return [[float(y) for y in container.lines[0].get_ydata()] for container in axes.containers]


def test_numbers_of_rounds_are_the_axis_and_splits_the_panels() -> None:
    found = {
        (run, Name("sums", split, n)): {0: (PLACE, summary(start + n / 10))}
        for run, start in (("base", 0.0), ("motif", 0.2))
        for split in ("easy", "hard")
        for n in (4, 1, 2)
    }
    figure = across("every-n", found)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["easy, 8 problems", "hard, 8 problems"]
    for axes in figure.axes:
        assert lines(axes) == [pytest.approx([0.1, 0.2, 0.4]), pytest.approx([0.3, 0.4, 0.6])]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]
        assert axes.get_xlabel() == "rounds at evaluation"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["base, before training, 1 seed", "motif, 1 seed"]


def test_many_splits_are_the_axis_and_numbers_of_rounds_the_panels() -> None:
    found = {
        ("motif", Name("sums", split, n)): {seed: (PLACE, summary(0.1 * place + n / 10, 4 + place)) for seed in (0, 1)}
        for place, split in enumerate(("terms-3", "terms-5", "terms-7"))
        for n in (1, 3)
    }
    del found["motif", Name("sums", "terms-5", 3)]
    figure = across("lengths", found)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "1 round, 4 to 6 problems",
        "3 rounds, 4 to 6 problems",
    ]
    assert [lines(axes) for axes in figure.axes] == [[pytest.approx([0.1, 0.2, 0.3])], [pytest.approx([0.3, 0.5])]]
    assert list(figure.axes[1].containers[0].lines[0].get_xdata()) == [0, 2], "a missing split leaves a gap"


def test_names_without_an_order_are_not_joined_by_lines() -> None:
    splits = ("easy", "easy-typos", "easy-distractor")
    found = {(run, Name("sums", split, 1)): {0: (PLACE, summary(0.5))} for run in ("base", "motif") for split in splits}
    figure = across("wordings", found)
    assert figure is not None
    first, second = (container.lines[0] for container in figure.axes[0].containers)
    assert first.get_linestyle() == "None"
    assert [b - a for a, b in zip(first.get_xdata(), second.get_xdata(), strict=True)] == pytest.approx([0.18] * 3)


def test_many_runs_are_the_rows_of_a_matrix() -> None:
    runs = [f"n{number}" for number in range(9)]
    found = {
        (run, Name("sums", "easy", n)): {0: (PLACE, summary(index / 10 + n / 100))}
        for index, run in enumerate(runs)
        for n in (1, 2, 4)
    }
    figure = across("every-n", found)
    assert figure is not None
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts[:4]] == ["1.0", "2.0", "4.0", "11.0"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"{run}, 1 seed" for run in runs]
    (image,) = axes.images
    assert image.get_array()[8].tolist() == pytest.approx([0.81, 0.82, 0.84])


def test_few_places_have_a_table_only() -> None:
    found = {("motif", Name("sums", split, n)): {0: (PLACE, summary(0.5))} for split in ("a", "b") for n in (1, 3)}
    assert across("before", found) is None
