"""Charts of the page: what they hold, where it is drawn, and that groups differ without colours."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from src.reporting import pages, series
from src.reporting.charts import BOTTOM, HEIGHT, TOP, apart, charts
from src.reporting.looks import look
from src.reporting.runs import Group, find_runs, grouped
from tests.unit.reporting.test_report import fake_run


@pytest.fixture
def groups(tmp_path: Path) -> list[Group]:
    for rounds in (1, 3):
        for seed in (0, 4):
            settings = {"rounds": {"n": rounds}, "benchmark": {"validation_size": 64}}
            fake_run(tmp_path / f"{rounds}_{seed}", seed, settings=settings)
    return grouped(find_runs([f"{tmp_path}/*"])[0])


def drawn(groups: list[Group], title: str) -> dict[str, Any]:
    (chart,) = [chart for chart in charts(groups)["drawn"] if chart["title"].startswith(title)]
    return dict(chart)


def test_a_chart_for_each_measure_that_the_runs_hold(groups: list[Group]) -> None:
    assert [(chart["title"], chart["unit"], chart["note"]) for chart in charts(groups)["drawn"]] == [
        ("Test accuracy before (hollow) and after (filled) training", "accuracy (%)", "95 % intervals"),
        ("Validation accuracy, 64 problems", "accuracy (%)", "shaded: 95 % intervals"),
        ("Training reward of first responses", "reward", ""),
    ]


def test_the_legend_names_the_seeds(groups: list[Group]) -> None:
    legend = charts(groups)["legend"]
    assert [(one["letter"], one["label"], one["seeds"]) for one in legend] == [
        ("A", "rounds.n=1", "2 seeds (0, 4)"),
        ("B", "rounds.n=3", "2 seeds (0, 4)"),
    ]


def test_intervals_stand_at_their_values(groups: list[Group]) -> None:
    chart = drawn(groups, "Test accuracy")
    assert [label for _, label in chart["headings"]] == ["easy, 1 round", "easy, 3 rounds"]
    assert [row["letter"] for row in chart["rows"]] == ["A", "B", "A", "B"]
    assert chart["rows"][0]["numbers"] == "40.0 → 60.0"
    base, trained = chart["rows"][0]["whiskers"]
    (_, zero), *_, (_, hundred) = [(x, float(label)) for x, label in chart["x"]]
    pixels = (chart["x"][-1][0] - chart["x"][0][0]) / (hundred - zero)
    assert trained["at"] - base["at"] == pytest.approx(20 * pixels, abs=0.2)
    assert base["low"] < base["at"] < base["high"]
    assert (base["filled"], trained["filled"]) == (False, True)
    assert base["y"] != trained["y"]


def test_curves_stand_at_their_values(groups: list[Group]) -> None:
    chart = drawn(groups, "Training reward")
    (line, _) = chart["lines"]
    places = [tuple(map(float, point.split(","))) for point in line["line"].split()]
    axis = {label: place for place, label in chart["y"]}
    per_unit = (axis["0.8"] - axis["0.6"]) / 0.2
    means = [0.62, 0.72, 0.82]  # of seeds 0 and 4
    assert [y for _, y in places] == pytest.approx([axis["0.6"] + per_unit * (mean - 0.6) for mean in means], abs=0.2)
    assert [x for x, _ in places] == [place for place, label in chart["x"] if label in ("1", "2", "3")]
    assert len(line["seeds"]) == 2


def test_looks_differ_without_colour() -> None:
    looks = [look(index) for index in range(20)]
    assert len({(one.dash, one.marker) for one in looks}) == 20
    assert len({one.letter for one in (look(index) for index in range(60))}) == 60


def test_letters_do_not_cover_each_other() -> None:
    bottom = HEIGHT - BOTTOM
    for places in ([50.0, 50.0, 52.0], [bottom, bottom, bottom], [10.0, 100.0], []):
        moved = sorted(apart(places))
        assert all(later - earlier >= 13 for earlier, later in pairwise(moved))
        assert all(place <= bottom for place in moved)


def test_letters_of_many_groups_stay_in_the_drawing() -> None:
    moved = sorted(apart([100.0] * 30))
    assert moved[0] >= TOP - 1e-9
    assert moved[-1] <= HEIGHT - BOTTOM + 1e-9
    assert len(set(moved)) == 30


def test_rounds_of_validation_are_named_in_the_title_or_where_groups_differ_in_them(groups: list[Group]) -> None:
    one, three = groups
    assert series.validation_title([three]) == "Validation accuracy, 64 problems, 3 rounds"
    assert series.validated_over([three]) == [three.label]
    assert series.validation_title(groups) == "Validation accuracy, 64 problems"
    assert series.validated_over(groups) == ["rounds.n=1", "rounds.n=3"]  # the labels say it already
    named = [replace(one, label="grpo"), replace(three, label="motif")]
    told = ["grpo (validated over 1 round)", "motif (validated over 3 rounds)"]
    assert series.validated_over(named) == told
    assert [key["label"] for key in charts(named)["legend"]] == told


def test_runs_without_validation_or_base_have_charts_too(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", base=None, steps=3)
    groups = grouped(find_runs([f"{tmp_path}/a"])[0])
    (row, _) = drawn(groups, "Test accuracy")["rows"]
    assert (row["numbers"], len(row["whiskers"])) == ("60.0", 1)
    assert (
        drawn(groups, "Validation accuracy")["title"] == "Validation accuracy, 3 rounds"
    )  # of an unknown number of problems


def test_the_page_draws_each_chart_with_a_text_for_those_who_do_not_see_it(groups: list[Group]) -> None:
    page = pages.page(groups, steps=1, trees=1, problems=0)
    texts = re.findall(r'class="chart"[^>]*aria-label="([^"]*)"', page)
    assert len(texts) == 3
    assert "A 40.0 → 60.0, B 40.0 → 60.0" in " ".join(texts[0].split())
    assert "A ends at 0.82, B ends at 0.82" in " ".join(texts[2].split())


def test_series_average_over_the_steps_that_all_seeds_have() -> None:
    found = series.smoothed([{1: 0.0, 2: 1.0}, {2: 3.0, 3: 5.0}], 1)
    assert found.mean == {2: 2.0}
    assert len(found.seeds) == 2
