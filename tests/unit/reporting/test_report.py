"""The report: tables against hand-computed numbers, groups and their labels, plots, and escaping on the page."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.stats import t

from src.config import ROOT, compose
from src.evaluation.joint import joint_difference, joint_interval
from src.evaluation.multiple_testing import holm
from src.report import report
from src.reporting import aggregations, answers, notes, page_data, pages, pairs, plots, series, tables, variances
from src.reporting.charts import charts
from src.reporting.looks import GREY, GREYED, look
from src.reporting.runs import find_runs, grouped, newest, read_run
from src.types import InputError
from src.utils.files import write_json, write_jsonl
from src.utils.floor import FLOOR
from tests.helpers import markdown_tables

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror='alert(2)'> & \"quotes\""


def evaluation(accuracy: float, half: float, tokens: float, rounds: int) -> dict[str, Any]:
    low, high = accuracy - half, accuracy + half
    numbers = {"accuracy": accuracy, "low": low, "high": high, "tokens_per_answer": tokens}
    return {**name(rounds), **numbers, "step": 3, "key": f"key of {rounds} rounds"}


def name(rounds: int) -> dict[str, Any]:
    return {"benchmark": "sums", "split": "easy", "rounds": rounds}


def as_older_versions_wrote_it(folder: Path) -> Path:
    """Rewrite a run in the older form: evaluations by "<split>, <n> rounds", without benchmark, split and key."""
    summary = json.loads((folder / "summary.json").read_text())
    for part, found in summary["evaluations"].items():
        by_name = {f"{one['split']}, {one['rounds']} round{'s' if one['rounds'] > 1 else ''}": one for one in found}
        for one in by_name.values():
            del one["benchmark"], one["split"]
            one.pop("key", None)
            if part == "change":
                del one["rounds"]
        summary["evaluations"][part] = by_name
    write_json(folder / "summary.json", summary)
    for file in (folder / "evaluation").glob("*/*.json"):
        file.write_text("{}")
    return folder


def turn(path: list[int], advantage: float | None, **more: Any) -> dict[str, Any]:
    return {
        "path": path,
        "round": len(path),
        "writer": "policy",
        "status": "done",
        "carried": "half of it" if len(path) > 1 else "",
        "carried_cut": False,
        "prompt_tokens": 9,
        "tokens": 7,
        "text": f"text of {path}",
        "scores": {"outcome": 1.0},
        "value": 1.0,
        "correct": 1.0,
        "advantage": advantage,
        **more,
    }


def fake_run(
    folder: Path,
    seed: int = 0,
    base: float | None = 0.4,
    trained: float = 0.6,
    settings: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: tuple[str, ...] = (),
    text: str = "fine",
    steps: int = 3,
    marks: list[list[float]] | None = None,
    tokens: int = 100,
) -> Path:
    """Write a complete run directory: one test split at 1 and at 3 rounds, trees with two first turns."""
    config = {
        "seed": seed,
        "train": {"steps": 3},
        "rounds": {"n": 3},
        "benchmark": {"name": "sums"},
        "evaluation": {"rounds": [1, "${rounds.n}"]},
        "tracking": {"name": folder.name},
    }
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.merge(config, settings or {}), folder / ".hydra" / "config.yaml")
    OmegaConf.save(list(overrides), folder / ".hydra" / "overrides.yaml")
    metrics = [
        {
            "step": step,
            "reward": 0.5 + 0.1 * step + 0.01 * seed,
            **{f"completion/round_{number}/mean_tokens": 10.0 * number for number in (1, 2, 3)},
            "tokens/generated": tokens,
            "validation/accuracy": 0.5,
            "validation/low": 0.4,
            "validation/high": 0.6,
        }
        for step in range(1, steps + 1)
    ]
    write_jsonl(folder / "metrics.jsonl", metrics)
    before = [] if base is None else [evaluation(base, 0.05, 20.0, rounds) | {"step": 0} for rounds in (1, 3)]
    after = [evaluation(trained, 0.02, 30.0, rounds) for rounds in (1, 3)]
    gain = trained - (base or 0)
    change = [{**name(one["rounds"]), "estimate": gain, "low": gain - 0.01, "high": gain + 0.01} for one in before]
    summary = {
        "complete": True,
        "seed": seed,
        "base_sha256": "ab" * 32,
        "final": {"step": 3},
        "evaluations": {"before": before, "after": after, "change": change},
        "choices": {"reward": "outcome", "tracking": folder.name, **(choices or {})},
    }
    write_json(folder / "summary.json", summary)
    answers = [
        {
            **{"id": f"p{place}", "question": f"question {place}", "gold": "4", "answer": "4", "correct": mark},
            **{"texts": ["half", text], "carried": ["", "half"], "tokens": [5, 6], "statuses": ["done", "truncated"]},
        }
        for place, row in enumerate(marks or [])
        for mark in row
    ]
    if answers:
        write_jsonl(folder / "evaluation" / "step_3" / "sums-easy_rounds3.jsonl", answers)
        write_json(folder / "evaluation" / "step_3" / "sums-easy_rounds3.json", {"key": after[1]["key"]})
    turns = [
        turn([0], 0.7, text=text, carried=text),
        turn([1], -0.7, status="truncated", value=None, scores=None, correct=None),
        turn([0, 0], None),
        turn([0, 1], None, writer="base", carried_cut=True),
    ]
    tree = {"problem": {"id": "p", "question": text, "answer": text}, "turns": turns}
    for step in (1, 3):
        write_jsonl(folder / "rollouts" / f"step_{step:06d}.jsonl", [tree, tree])
    return folder


def rows_of(*patterns: str) -> list[tables.Result]:
    return tables.results(grouped(find_runs(patterns)[0]))


def test_with_one_seed_intervals_are_over_problems(tmp_path: Path) -> None:
    fake_run(tmp_path / "a")
    one, three = rows_of(f"{tmp_path}/*")
    assert (one.split, one.rounds, three.rounds) == ("easy", 1, 3)
    heads, first, second = markdown_tables.rows(tables.markdown([one, three]))
    assert heads == ["test split", "rounds", "base", "trained", "change", "tokens per answer", "seeds"]
    numbers = ["40.0 [35.0, 45.0]", "60.0 [58.0, 62.0]", "+20.0 [+19.0, +21.0]", "20.0 → 30.0", "1"]
    assert first == ["easy", "1", *numbers]
    assert second == ["easy", "3", *numbers]


def test_with_several_seeds_intervals_are_over_seeds_and_problems(tmp_path: Path) -> None:
    for seed, trained in ((2, 0.7), (0, 0.5), (1, 0.6)):
        fake_run(tmp_path / f"run{seed}", seed, trained=trained)
    row = rows_of(f"{tmp_path}/*")[0]
    assert row.seed_numbers == (0, 1, 2)
    # over seeds: mean 0.6, standard deviation 0.1, t(2) = 4.302653: half = 4.302653 * 0.1 / sqrt(3) = 0.248414
    # over problems: 0.02 in every run, 0.01 of its change
    half = (0.248414**2 + 0.02**2) ** 0.5
    assert (row.trained.estimate, row.trained.low, row.trained.high) == pytest.approx(
        (0.6, 0.6 - half, 0.6 + half), abs=1e-6
    )
    assert row.change is not None
    half = (0.248414**2 + 0.01**2) ** 0.5
    assert (row.change.estimate, row.change.low, row.change.high) == pytest.approx(
        (0.2, 0.2 - half, 0.2 + half), abs=1e-6
    )
    assert row.base is not None
    assert (row.base.low, row.base.high) == pytest.approx((0.35, 0.45))  # equal seeds: as uncertain as the problems
    record = next(csv.DictReader(tables.comma_separated([row]).splitlines()))
    assert [float(record[f"trained_seed_{seed}"]) for seed in range(3)] == [0.5, 0.6, 0.7]
    assert [float(record[f"change_seed_{seed}"]) for seed in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert record["seeds"] == "3"


def test_intervals_of_accuracies_stay_below_one(tmp_path: Path) -> None:
    for seed, trained in enumerate((0.9, 1.0)):
        fake_run(tmp_path / str(seed), seed, trained=trained)
    assert rows_of(f"{tmp_path}/*")[0].trained.high == 1.0


@pytest.mark.parametrize("count", [2, 3, 5, 10, 32])
def test_intervals_over_seeds_are_students_t(count: int) -> None:
    values = [0.1 * place**0.5 for place in range(count)]
    interval = tables.over_seeds(values)
    low, high = t.interval(0.95, count - 1, statistics.fmean(values), statistics.stdev(values) / count**0.5)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize("older", [("a",), ("b",), ("a", "b")])
def test_runs_of_older_versions_give_the_same_report(tmp_path: Path, older: tuple[str, ...]) -> None:
    for name, steps in (("a", 3), ("b", 4)):
        for seed in (0, 1):
            settings, marks = {"train": {"problems": steps}}, [[1.0, 0.0], [1.0, float(name == "b")]]
            folder = fake_run(tmp_path / "runs" / f"{name}{seed}", seed, settings=settings, marks=marks)
            fake_run(tmp_path / "new" / f"{name}{seed}", seed, settings=settings, marks=marks)
            if name in older:
                as_older_versions_wrote_it(folder)
    read, expected = (grouped(find_runs([f"{tmp_path}/{folder}/*"])[0]) for folder in ("runs", "new"))
    assert tables.results(read) == tables.results(expected)
    assert len(tables.results(read)) == 4
    assert pairs.pairs(read) == pairs.pairs(expected)
    assert pairs.pairs(read)[0].problems.estimate == 0.25


def test_splits_of_several_benchmarks_are_distinguished(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "a")
    summary = json.loads((folder / "summary.json").read_text())
    summary["evaluations"]["after"].append(evaluation(0.9, 0.02, 30.0, 3) | {"benchmark": "products"})
    write_json(folder / "summary.json", summary)
    rows = rows_of(f"{tmp_path}/*")
    assert [(row.split, row.rounds, row.trained.estimate) for row in rows] == [
        ("sums/easy", 1, 0.6),
        ("sums/easy", 3, 0.6),
        ("products/easy", 3, 0.9),
    ]
    assert rows[1].base is not None
    assert rows[2].base is None  # the base was evaluated on sums only


def test_groups_are_paired_by_problem_and_seed(tmp_path: Path) -> None:
    """Two groups, two seeds, three problems of two samples; differences per problem 1/2, 1/4 and 0."""
    marks = {
        ("a", 0): [[0, 0], [0, 1], [1, 1]],
        ("b", 0): [[1, 0], [1, 1], [1, 1]],
        ("a", 1): [[0, 0], [1, 1], [0, 0]],
        ("b", 1): [[1, 0], [1, 1], [0, 0]],
    }
    for (name, seed), rows in marks.items():
        choice = {"reward": {"a": "outcome", "b": "tree"}[name]}
        folder, tokens = tmp_path / f"{name}{seed}", {"a": 100, "b": 150}[name]
        fake_run(folder, seed, choices=choice, settings={"reward": choice}, marks=rows, tokens=tokens)  # type: ignore[arg-type]
    (pair,) = pairs.pairs(grouped(find_runs([f"{tmp_path}/*"])[0]))
    assert (pair.split, pair.rounds, pair.tokens) == ("easy", 3, 1.5)
    assert (pair.first, pair.second) == ("reward=outcome", "reward=tree")
    half = 4.302653 * statistics.stdev([0.5, 0.25, 0.0]) / 3**0.5
    assert pair.problems.estimate == pytest.approx(0.25)
    assert pair.problems.high == pytest.approx(0.25 + half, abs=1e-6)
    assert pair.seeds is not None
    assert pair.seeds.estimate == pytest.approx((1 / 3 + 1 / 6) / 2)
    assert pair.seeds.high == pytest.approx(0.25 + 12.7062 * statistics.stdev([1 / 3, 1 / 6]) / 2**0.5, abs=1e-4)
    heads, cells, *spread = markdown_tables.rows(pairs.markdown([pair]))
    assert heads[:4] == ["test split", "rounds", "first", "second"]
    assert cells[:4] == ["easy", "3", "reward=outcome", "reward=tree"]
    assert cells[4].startswith("(+25.0 [")  # p is above 5 %
    assert cells[8] == "x 1.50"
    # mean squares: seeds 1/24, problems 1/8, both 1/24; t of 1 and 2 degrees of freedom; 6 differences
    half = ((12.7062**2 / 24 + 4.302653**2 * (1 / 8 - 1 / 24)) / 6) ** 0.5
    assert pair.joint is not None
    assert (pair.joint.estimate, pair.joint.low, pair.joint.high) == pytest.approx((0.25, 0.25 - half, 1.0), abs=1e-4)
    assert pair.detectable is not None
    assert cells[7] in (f"{100 * pair.detectable:.1f}", "> 100")
    assert (heads[-1], cells[-1]) == ("seeds", "2")
    assert pair.components is not None
    assert spread == [
        [*heads[:4], "seed", "seed, at most", "problem", "seed x problem", "sampling"],
        [*cells[:4], *variances.deviations(pair.components)],
    ]


def test_pairs_read_the_records_of_the_evaluation_in_the_summary(tmp_path: Path) -> None:
    """A later evaluation of the split with other settings is in the same folder, under another name."""
    for name, problems in (("a", 3), ("b", 4)):
        folder = fake_run(
            tmp_path / name, settings={"train": {"problems": problems}}, marks=[[1.0], [float(problems == 4)]]
        )
        other = folder / "evaluation" / "step_3" / "sums-easy_rounds3_0a1b2c3d"
        write_json(other.with_suffix(".json"), {"key": "another"})
        wrong = [{"id": f"p{place}", "question": f"question {place}", "correct": 0.0} for place in (0, 1)]
        write_jsonl(other.with_suffix(".jsonl"), wrong)
    (pair,) = pairs.pairs(grouped(find_runs([f"{tmp_path}/*"])[0]))
    assert (pair.rounds, pair.problems.estimate) == (3, 0.5)


def recorded_verdicts(folder: Path, before: list[float], after: list[float], samples: int = 2, **more: Any) -> None:
    """Add the verdicts by problem to the evaluations of a run, as current versions write them."""
    summary = json.loads((folder / "summary.json").read_text())
    for part, totals in (("before", before), ("after", after)):
        for one in summary["evaluations"][part]:
            decided = {"problems": {"sha256": "the same"}}
            one |= {"per_problem": totals, "samples": samples, "problems": len(totals), "decided_by": decided, **more}
    write_json(folder / "summary.json", summary)


def test_several_seeds_with_verdicts_have_one_interval_over_seeds_and_problems(tmp_path: Path) -> None:
    after = {0: [2.0, 1.0, 0.0, 2.0], 1: [2.0, 2.0, 0.0, 1.0]}
    before = {0: [1.0, 1.0, 0.0, 0.0], 1: [1.0, 2.0, 0.0, 1.0]}
    for seed in (0, 1):
        recorded_verdicts(fake_run(tmp_path / str(seed), seed), before[seed], after[seed])
    row = rows_of(f"{tmp_path}/*")[0]
    sides = [np.array([side[seed] for seed in (0, 1)])[:, :, None] / 2 for side in (before, after)]
    assert row.joint
    assert row.trained == joint_interval(sides[1])
    assert row.change == joint_difference(*sides)
    assert notes.JOINT in tables.markdown([row])
    older = tmp_path / "older"
    for seed in (0, 1):
        fake_run(older / str(seed), seed)
    assert not rows_of(f"{older}/*")[0].joint


def test_verdicts_without_spread_keep_an_interval_with_a_width(tmp_path: Path) -> None:
    for seed in (0, 1):
        recorded_verdicts(fake_run(tmp_path / str(seed), seed), [0.0] * 4, [0.0] * 4)
    row = rows_of(f"{tmp_path}/*")[0]
    assert row.trained.low < row.trained.high
    assert row.change is not None
    assert row.change.low < row.change.high


def test_the_report_has_variance_components_below_results_of_several_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        recorded_verdicts(fake_run(tmp_path / f"run{seed}", seed), [0.0, 1.0, 2.0], [1.0, 2.0, seed + 0.0])
    report(compose("report", [f"runs='{tmp_path}/run*'", f"out={tmp_path}/out"]), tmp_path)
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.endswith(variances.of_groups(grouped(find_runs([f"{tmp_path}/run*"])[0])))
    assert text.count(variances.NOTE) == 1


def test_votes_of_one_round_stand_beside_rows_of_several(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "a")
    summary = json.loads((folder / "summary.json").read_text())
    one, three = summary["evaluations"]["after"]
    one |= {"votes": {"1": 0.5, "2": 0.55, "3": 0.61, "4": 0.7}, "samples": 4, "tokens_per_answer": 10.0}
    three |= {"tokens_per_answer": 39.0}
    write_json(folder / "summary.json", summary)
    rows = rows_of(f"{tmp_path}/*")
    assert [row.vote for row in rows] == [None, (0.61, 3)]
    heads, first, second = markdown_tables.rows(tables.markdown(rows))
    assert heads[-2:] == ["vote", "seeds"]
    assert (first[-2], second[-2]) == ("-", "61.0 (3)")
    assert notes.VOTE in tables.markdown(rows)
    assert [one["votes"] for one in csv.DictReader(tables.comma_separated(rows).splitlines())] == ["", "3"]


def test_changes_below_the_measurement_floor_are_marked(tmp_path: Path) -> None:
    floor = {"floor": {"estimate": 0.0, "low": 0.0, "high": 0.25}}
    recorded_verdicts(fake_run(tmp_path / "a"), [1.0, 0.0], [1.0, 0.0], **floor)
    rows = rows_of(f"{tmp_path}/*")
    cell = markdown_tables.rows(tables.markdown(rows))[1][4]
    assert cell.startswith("+20.0 [")
    assert cell.endswith("] ~"), "round brackets mean something else in pairs.md"
    assert [one["floor"] for one in csv.DictReader(tables.comma_separated(rows).splitlines())] == ["0.25", "0.25"]
    assert FLOOR in tables.markdown(rows)


@pytest.mark.parametrize(("high", "below"), [(0.25, True), (0.15, False), (None, False)])
def test_accuracies_whose_change_is_below_the_measurement_floor_are_grey(
    tmp_path: Path, high: float | None, below: bool
) -> None:
    floor = {} if high is None else {"floor": {"estimate": 0.0, "low": 0.0, "high": high}}
    recorded_verdicts(fake_run(tmp_path / "a"), [1.0, 0.0], [1.0, 0.0], **floor)
    figure = plots.before_after(rows_of(f"{tmp_path}/*"))
    colours = {container.lines[0].get_color() for container in figure.axes[0].containers}
    assert colours == {GREY if below else look(0).colour}
    (legend,) = figure.legends
    assert (GREYED in [text.get_text() for text in legend.get_texts()]) == below
    (chart,) = [one for one in charts(grouped(find_runs([f"{tmp_path}/*"])[0]))["drawn"] if one["kind"] == "intervals"]
    assert {row["colour"] for row in chart["rows"]} == colours
    assert chart["note"] == "95 % intervals" + f"; grey: {GREYED}" * below


def test_accuracies_corrected_for_the_verifier_have_a_column(tmp_path: Path) -> None:
    corrected = {"corrected": {"accuracy": 0.66, "low": 0.6, "high": 0.72}}
    recorded_verdicts(fake_run(tmp_path / "a"), [1.0, 0.0], [1.0, 0.0], **corrected)
    heads, first, _ = markdown_tables.rows(tables.markdown(rows_of(f"{tmp_path}/*")))
    assert (heads[4], first[4]) == ("corrected", "66.0 [60.0, 72.0]")


def test_p_values_of_a_table_are_adjusted_together(tmp_path: Path) -> None:
    marks = {"a": [[0.0], [0.0], [1.0], [0.0]], "b": [[1.0], [1.0], [1.0], [0.0]], "c": [[0.0], [1.0], [1.0], [0.0]]}
    for name, rows in marks.items():
        fake_run(tmp_path / name, settings={"model": {"prompt": name}}, marks=rows)
    found = pairs.pairs(grouped(find_runs([f"{tmp_path}/*"])[0]))
    assert [pair.adjusted for pair in found] == holm([pair.p for pair in found])
    assert len({pair.p for pair in found}) > 1
    cells = markdown_tables.rows(pairs.markdown(found))
    assert cells[0][-2:] == ["p (Holm)", "seeds"]
    assert all(row[4].startswith("(") for row in cells[1:])  # none is below 5 %


def test_the_weights_that_keep_best_chose_stand_beside_the_last(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "a")
    assert answers.kept(grouped(find_runs([f"{tmp_path}/*"])[0])) == ""
    summary = json.loads((folder / "summary.json").read_text())
    fresh = {"fresh_accuracy": 0.6, "fresh_low": 0.5, "fresh_high": 0.7, "optimism": 0.04}
    summary["best"] = {"step": 2, "accuracy": 0.64, **fresh}
    summary["evaluations"]["last_to_best"] = [{**name(3), "estimate": 0.01, "low": -0.02, "high": 0.04, "problems": 9}]
    write_json(folder / "summary.json", summary)
    text = answers.kept(grouped(find_runs([f"{tmp_path}/*"])[0]))
    _, cells = markdown_tables.rows(text)
    assert cells == ["0", "2", "64.0", "60.0 [50.0, 70.0]", "+4.0", "easy, 3: +1.0 [-2.0, +4.0]"]
    assert answers.OLDER in text, "without verdicts, only the interval of the fresh answers is known"
    assert FLOOR not in text
    summary["evaluations"]["after"][1]["floor"] = {"estimate": 0.0, "low": 0.0, "high": 0.02}
    write_json(folder / "summary.json", summary)
    text = answers.kept(grouped(find_runs([f"{tmp_path}/*"])[0]))
    assert markdown_tables.rows(text)[1][-1] == "easy, 3: +1.0 [-2.0, +4.0] ~"
    assert FLOOR in text


def test_the_optimism_has_the_interval_of_its_own_difference(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = fake_run(tmp_path / str(seed), seed)
        summary = json.loads((folder / "summary.json").read_text())
        fresh = {"fresh_accuracy": 0.6, "fresh_low": 0.5, "fresh_high": 0.7}
        paired = {"optimism": 0.04, "optimism_low": 0.01, "optimism_high": 0.07}
        write_json(folder / "summary.json", {**summary, "best": {"step": 2, "accuracy": 0.64, **fresh, **paired}})
    text = answers.kept(grouped(find_runs([f"{tmp_path}/*"])[0]))
    _, *cells, mean = markdown_tables.rows(text)
    assert [row[4] for row in cells] == ["+4.0 [+1.0, +7.0]"] * 2
    assert mean[4] == "+4.0 [+1.0, +7.0]"
    assert answers.GREEDY not in text
    assert answers.OLDER not in text


@pytest.mark.parametrize("older", [True, False])
def test_the_optimism_of_greedy_answers_is_not_measurable(tmp_path: Path, older: bool) -> None:
    """Older versions answered again, with the same answers."""
    for seed in (0, 1):
        folder = fake_run(tmp_path / str(seed), seed)
        summary = json.loads((folder / "summary.json").read_text())
        same = {"fresh_accuracy": 0.64, "fresh_low": 0.5, "fresh_high": 0.7, "optimism": 0.0}
        summary["best"] = {"step": 2, "accuracy": 0.64, **(same if older else {"optimism": None})}
        for one in summary["evaluations"]["after"] if older else []:
            one["temperature"] = 0.0
        write_json(folder / "summary.json", summary)
    text = answers.kept(grouped(find_runs([f"{tmp_path}/*"])[0]))
    _, *cells = markdown_tables.rows(text)
    assert [row[2:5] for row in cells] == [["64.0", "-", "-"]] * 2, "no mean"
    assert answers.GREEDY in text


def test_the_table_of_answers_shows_how_they_end(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "a")
    assert answers.markdown(grouped(find_runs([f"{tmp_path}/*"])[0])) == ""
    ends = dict.fromkeys(answers.ENDINGS, 0.1) | {"right": 0.5}
    more = {"attempts": ends, "vote_calibration": {"error": 0.07, "brier": 0.1, "shares": {}}}
    recorded_verdicts(folder, [1.0, 0.0], [1.0, 0.0], **more)
    _, first, _ = markdown_tables.rows(answers.markdown(grouped(find_runs([f"{tmp_path}/*"])[0])))
    assert first[:3] == ["easy", "1", "50.0 → 50.0"]
    assert first[-1] == "7.0 → 7.0"


def test_the_table_of_answers_shows_guesses_where_they_are_recorded(tmp_path: Path) -> None:
    more = {"attempts": dict.fromkeys(answers.ENDINGS, 0.1), "vote_calibration": {"error": 0.07}}
    guess = {"answer": "1", "stated": 0.25, "gold": 0.4, "elsewhere": 0.125}
    for name, found in (("older", {}), ("some", {"repeated": guess}), ("unstated", {"repeated": None})):
        folder = fake_run(tmp_path / name, settings={"model": {"prompt": name}})
        recorded_verdicts(folder, [1.0, 0.0], [1.0, 0.0], **more, **found)
    text = answers.markdown(grouped(find_runs([f"{tmp_path}/*"])[0]))
    heads, *cells = markdown_tables.rows(text)
    assert heads[-2:] == ["same answer", "right elsewhere"]
    assert [row[-2:] for row in cells[::2]] == [["", ""], ["25.0 → 25.0", "12.5 → 12.5"], ["", ""]]
    assert answers.GUESSED in text


def share(count: int, total: int) -> dict[str, float]:
    return {"count": count, "total": total, "estimate": count / total, "low": 0.0, "high": 1.0}


def aggregated(folder: Path, tokens: float) -> None:
    """Add what evaluations of three rounds record if prompts quote two drafts, and the evaluation of a control."""
    summary = json.loads((folder / "summary.json").read_text())
    vote = {"accuracy": 0.7, "low": 0.6, "high": 0.8, "drafts": 2.5, "tokens": 28.0}
    graph = {
        **{"sequential_tokens": tokens, "total_tokens": 30.0, "aggregations": 8, "draft_vote": vote},
        **{"right_if_all_wrong": share(1, 4), "wrong_if_some_right": None},
        **{"by_right_sources": {"0": share(1, 4)}, "by_position": {"1": share(1, 2), "2": None}},
    }
    for part in ("before", "after"):
        one = summary["evaluations"][part][1]
        one |= {"graph": graph, "problems": 8, "decided_by": {"weights": part}}
    write_json(folder / "summary.json", summary)
    control = {"sources": "oracle_wrong", "drafts": None, "problems": 8, "covered": 5}
    asked = {"weights": "after", "control": {"sources": "oracle_wrong", "drafts": None}}
    other = {**one, "accuracy": 0.25, "problems": 5, "control": control, "decided_by": asked}
    write_json(folder / "evaluation" / "step_3" / "control.json", other)
    elsewhere = {**other, "decided_by": {**asked, "temperature": 0.5}}  # a control of another evaluation
    write_json(folder / "evaluation" / "step_3" / "elsewhere.json", elsewhere)


def test_the_table_of_aggregations_shows_controls_beside_the_runs_own_evaluation(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "a")
    assert aggregations.markdown(grouped(find_runs([f"{tmp_path}/*"])[0])) == ""
    assert "tokens in sequence" not in tables.markdown(rows_of(f"{tmp_path}/*"))
    aggregated(folder, 12.0)
    heads, *rows = markdown_tables.rows(aggregations.markdown(grouped(find_runs([f"{tmp_path}/*"])[0])))
    measures = ["12.0", "30.0", "70.0 [60.0, 80.0] (2.5)", "25.0 [0.0, 100.0]", "-", "50.0 [0.0, 100.0]", "-"]
    assert rows == [
        ["easy", "3", "as written", "60.0 [58.0, 62.0]", "8", *measures],
        ["easy", "3", "oracle wrong", "25.0 [58.0, 62.0]", "5 of 8", *measures],
    ]
    assert heads[-2:] == ["only source 1 right", "only source 2 right"]


def test_tokens_in_sequence_are_a_column_of_the_results(tmp_path: Path) -> None:
    for seed, tokens in ((0, 12.0), (1, 14.0)):
        aggregated(fake_run(tmp_path / str(seed), seed), tokens)
    rows = rows_of(f"{tmp_path}/*")
    heads, first, second = markdown_tables.rows(tables.markdown(rows))
    assert [row[heads.index("tokens in sequence")] for row in (first, second)] == ["-", "13.0 → 13.0"]
    records = list(csv.DictReader(tables.comma_separated(rows).splitlines()))
    assert [one["sequential_tokens"] for one in records] == ["", "13.0"]
    found = markdown_tables.rows(aggregations.markdown(grouped(find_runs([f"{tmp_path}/*"])[0])))
    assert [row[2] for row in found[1:]] == ["as written", "oracle wrong"]


def test_groups_without_common_seeds_problems_or_records_are_not_paired(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", 0, marks=[[1.0]])
    fake_run(tmp_path / "b", 1, settings={"train": {"steps": 9}}, marks=[[1.0]])  # no seed in common
    fake_run(tmp_path / "c", 0, settings={"train": {"steps": 8}}, marks=[[1.0], [0.0]])  # other problems
    fake_run(tmp_path / "d", 0, settings={"train": {"steps": 7}})  # no records
    assert pairs.pairs(grouped(find_runs([f"{tmp_path}/*"])[0])) == []


def rewrite(folder: Path, benchmark: str, split: str, data: str) -> Path:
    """Change a run to one that was evaluated on ``split`` of ``benchmark``."""
    summary = json.loads((folder / "summary.json").read_text())
    for part in summary["evaluations"].values():
        for one in part:
            one |= {"benchmark": benchmark, "split": split, "data": data}
    write_json(folder / "summary.json", summary)
    for file in (folder / "evaluation" / "step_3").glob("sums-easy_*"):
        file.rename(file.with_name(file.name.replace("sums-easy", f"{benchmark}-{split}")))
    return folder


@pytest.mark.parametrize("older", [(), ("gsm8k",), ("gsm8k", "math500")], ids=["as written now", "one older", "older"])
def test_runs_on_two_benchmarks_with_one_name_of_their_splits_are_not_merged(
    tmp_path: Path, older: tuple[str, ...]
) -> None:
    """Both benchmarks call their split ``test``; problems have the same ids in both."""
    for benchmark, trained in (("gsm8k", 0.9), ("math500", 0.3)):
        for seed in (0, 1):
            settings, marks = {"benchmark": {"name": benchmark}}, [[1.0], [float(benchmark == "gsm8k")]]
            folder = fake_run(tmp_path / f"{benchmark}{seed}", seed, trained=trained, settings=settings, marks=marks)
            rewrite(folder, benchmark, "test", f"{benchmark} test")
            if benchmark in older:
                as_older_versions_wrote_it(folder)
    groups = grouped(find_runs([f"{tmp_path}/*"])[0])
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("benchmark.name=gsm8k", 2),
        ("benchmark.name=math500", 2),
    ]
    rows = tables.results(groups)
    assert [(row.split, row.rounds, row.trained.estimate, len(row.seed_numbers)) for row in rows] == [
        ("gsm8k/test", 1, 0.9, 2),
        ("gsm8k/test", 3, 0.9, 2),
        ("math500/test", 1, 0.3, 2),
        ("math500/test", 3, 0.3, 2),
    ]
    assert pairs.pairs(groups) == []
    tests = [text.get_text() for text in plots.before_after(rows).axes[0].get_yticklabels()]
    assert tests == [f"{name}/test, {rounds}" for name in ("gsm8k", "math500") for rounds in ("1 round", "3 rounds")]


def test_seeds_on_other_data_are_another_group(tmp_path: Path) -> None:
    """The same settings, but the file that they name changed between the runs."""
    for seed, data in ((0, "test.jsonl sha256:aa"), (1, "test.jsonl sha256:bb")):
        rewrite(fake_run(tmp_path / str(seed), seed), "jsonl", "test", data)
    groups = grouped(find_runs([f"{tmp_path}/*"])[0])
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("data/test=test.jsonl sha256:aa", 1),
        ("data/test=test.jsonl sha256:bb", 1),
    ]


def test_problems_with_one_id_and_two_questions_are_not_paired(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = fake_run(tmp_path / name, settings={"model": {"prompt": name}}, marks=[[1.0], [0.0]])
        file = folder / "evaluation" / "step_3" / "sums-easy_rounds3.jsonl"
        file.write_text(file.read_text().replace("question 1", f"another question of {name}"))
    assert pairs.pairs(grouped(find_runs([f"{tmp_path}/*"])[0])) == []


def test_a_seed_whose_records_are_deleted_leaves_the_groups_unpaired(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for seed in (0, 1):
            marks = [[1.0], [0.0]] if seed == 0 else None
            fake_run(tmp_path / f"{name}{seed}", seed, settings={"model": {"prompt": name}}, marks=marks)
    assert pairs.pairs(grouped(find_runs([f"{tmp_path}/*"])[0])) == []


def test_equal_differences_of_all_seeds_give_no_interval_over_seeds(tmp_path: Path) -> None:
    for name, second in (("a", 0.0), ("b", 1.0)):
        for seed in (0, 1):
            settings = {"model": {"prompt": name}}
            fake_run(tmp_path / f"{name}{seed}", seed, settings=settings, marks=[[1.0], [second]])
    (pair,) = pairs.pairs(grouped(find_runs([f"{tmp_path}/*"])[0]))
    assert (pair.problems.estimate, pair.seeds) == (0.5, None)
    cells = markdown_tables.rows(pairs.markdown([pair]))[1]
    assert cells[5] == "-"


def test_a_run_without_a_base_has_no_change(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", base=None)
    rows = rows_of(f"{tmp_path}/*")
    _, first, _ = markdown_tables.rows(tables.markdown(rows))
    assert first[2:] == ["-", "60.0 [58.0, 62.0]", "-", "30.0", "1"]
    assert next(csv.DictReader(tables.comma_separated(rows).splitlines()))["base_estimate"] == ""
    assert plots.before_after(rows).axes


def test_labels_of_groups_show_the_settings_that_differ(tmp_path: Path) -> None:
    for rounds in (3, 1, 10):
        for seed in (0, 1):
            fake_run(tmp_path / f"{rounds}_{seed}", seed, settings={"rounds": {"n": rounds}})
    groups = grouped(find_runs([f"{tmp_path}/*"])[0])
    assert [group.label for group in groups] == ["rounds.n=1", "rounds.n=3", "rounds.n=10"]
    assert [[run.seed for run in group.runs] for group in groups] == [[0, 1]] * 3


def test_a_label_shows_a_choice_instead_of_the_settings_it_implies(tmp_path: Path) -> None:
    for name, weight in (("outcome", 1.0), ("immediate", 0.5)):
        settings = {"reward": {"_target_": f"src.b.{name}", "terms": {"x": weight}}}
        fake_run(tmp_path / name, settings=settings, choices={"reward": name}, overrides=(f"reward={name}",))
    groups = grouped(find_runs([f"{tmp_path}/*"])[0])
    assert [group.label for group in groups] == ["reward=immediate", "reward=outcome"]


def test_a_label_shows_a_setting_of_the_command_line_beside_its_choice(tmp_path: Path) -> None:
    for name, weight in (("outcome", 1.0), ("immediate", 0.5)):
        settings = {"reward": {"terms": {"x": {"weight": weight}}}}
        given = (f"reward={name}", f"reward.terms.x.weight={weight}")
        fake_run(tmp_path / name, settings=settings, choices={"reward": name}, overrides=given)
    groups = grouped(find_runs([f"{tmp_path}/*"])[0])
    assert groups[0].label == "reward=immediate, x.weight=0.5"


def test_a_label_shows_an_experiment_instead_of_all_its_settings(tmp_path: Path) -> None:
    for name, rounds in (("grpo", 1), ("motif", 3)):
        settings = {"rounds": {"n": rounds}, "train": {"steps": 2 + rounds}}
        choices = {"experiment": name, "rounds": str(rounds)}
        fake_run(tmp_path / name, settings=settings, choices=choices, overrides=(f"experiment={name}",))
    assert [group.label for group in grouped(find_runs([f"{tmp_path}/*"])[0])] == [
        "experiment=grpo",
        "experiment=motif",
    ]


def test_an_option_that_was_not_chosen_is_not_in_the_label(tmp_path: Path) -> None:
    fake_run(tmp_path / "older", settings={"train": {"steps": 5}}, choices={"reward": "outcome"})
    fake_run(tmp_path / "newer", settings={"train": {"steps": 7}}, choices={"experiment": "None"})
    assert [group.label for group in grouped(find_runs([f"{tmp_path}/*"])[0])] == ["train.steps=5", "train.steps=7"]


def test_long_values_never_make_two_labels_equal(tmp_path: Path) -> None:
    for end in "ab":
        fake_run(tmp_path / end, settings={"model": {"prompt": "the same beginning, very long " + end}})
    labels = [group.label for group in grouped(find_runs([f"{tmp_path}/*"])[0])]
    assert labels[0].endswith("long a")
    assert labels[1].endswith("long b")


def test_incomplete_runs_are_named_and_left_out(tmp_path: Path) -> None:
    good = fake_run(tmp_path / "1_good")
    (fake_run(tmp_path / "2_running") / "summary.json").unlink()
    fake_run(tmp_path / "3_continued", steps=5)
    evaluated = fake_run(tmp_path / "4_evaluate")
    OmegaConf.save({"run": None}, evaluated / ".hydra" / "config.yaml")
    (tmp_path / "5_else").mkdir()
    (tmp_path / "6_file").touch()
    runs, left_out = find_runs([f"{tmp_path}/*"])
    assert [run.path for run in runs] == [good]
    expected = ("no summary", "its metrics at step 5", "no train section", "not a run directory", "not a run directory")
    for line, reason, number in zip(left_out, expected, range(2, 7), strict=True):
        assert line.startswith(f"{tmp_path}/{number}_")
        assert reason in line


def test_a_repeated_seed_counts_once(tmp_path: Path) -> None:
    fake_run(tmp_path / "run9", trained=0.5)
    later = fake_run(tmp_path / "run10", trained=0.7)
    runs, left_out = find_runs([f"{tmp_path}/*", f"{tmp_path}/run10"])
    assert [run.path for run in runs] == [later]
    assert left_out == [f"{tmp_path}/run9: has the same settings and seed as {later}, which is used instead"]


def test_globs_that_find_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing matches"):
        find_runs([f"{tmp_path}/none*"])
    (tmp_path / "else").mkdir()
    with pytest.raises(InputError, match="not a run directory"):
        find_runs([f"{tmp_path}/*"])
    with pytest.raises(InputError, match="no complete run"):
        newest(tmp_path)


def test_the_newest_run_is_no_warm_up(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "2026-01-01" / "09-00-00")
    warm_up = tmp_path / "2026-01-02" / "09-00-00"
    warm_up.mkdir(parents=True)
    (warm_up / "summary.json").write_text('{"complete": true}')
    assert newest(tmp_path) == run


def test_latex_escapes_labels(tmp_path: Path) -> None:
    for name in ("50% {x}", "a_b \\ c & d"):
        fake_run(tmp_path / name[:2], settings={"model": {"prompt": name}}, base=None if name[0] == "5" else 0.4)
    text = tables.latex(rows_of(f"{tmp_path}/*"))
    assert r"prompt=50\% \{x\}" in text
    assert r"prompt=a\_b \textbackslash{} c \& d" in text
    assert r"20.0 $\to$ 30.0" in text
    assert r"\begin{tabular}{llrrrrrr}" in text
    assert [line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")] == [7] * 5


def test_pipes_in_cells_are_escaped(tmp_path: Path) -> None:
    for name in ("a|b", "c"):
        fake_run(tmp_path / name[0], settings={"model": {"prompt": name}})
    rows = markdown_tables.rows(tables.markdown(rows_of(f"{tmp_path}/*")))
    assert {row[0] for row in rows[1:]} == {r"model.prompt=a\|b", "model.prompt=c"}
    assert {len(row) for row in rows} == {8}


class Tags(HTMLParser):
    """Collects the tags and the text of a page; checks that tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def data_of(page: str) -> dict[str, Any]:
    """The data that a page holds."""
    found: dict[str, Any] = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    return found


def test_no_text_becomes_markup_on_the_page(tmp_path: Path) -> None:
    for name in ("a", "b"):
        prompt = {"prompt": HOSTILE + name}
        fake_run(tmp_path / name, settings={"model": prompt}, text=HOSTILE, marks=[[1.0]])
    page = pages.page(grouped(find_runs([f"{tmp_path}/*"])[0]), steps=2, trees=1, problems=1)
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert page.count("<script") == 2
    assert not tags.seen & {"img", "link", "iframe"}
    assert not tags.attributes & {"onerror", "src", "href"}
    assert "alert" not in page.partition("<main>")[0]
    assert "http://" not in page
    assert "https://" not in page
    rollouts = data_of(page)["rollouts"]
    assert len(rollouts) == 2 * (2 + 1)
    for rollout in rollouts:
        assert HOSTILE in (rollout["turns"][0]["text"], rollout["turns"][-1]["text"])


def test_half_of_a_surrogate_pair_is_written_as_an_escape(tmp_path: Path) -> None:
    file = fake_run(tmp_path / "a", text="HALF") / "rollouts" / "step_000003.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("HALF", "\\ud800"), encoding="utf-8")
    page = pages.page(grouped(find_runs([f"{tmp_path}/*"])[0]), steps=1, trees=1, problems=0)
    page.encode()
    assert "\ud800" in [turn["text"] for rollout in data_of(page)["rollouts"] for turn in rollout["turns"]]


def test_the_page_allows_its_own_script_only(tmp_path: Path) -> None:
    fake_run(tmp_path / "a")
    page = pages.page(grouped(find_runs([f"{tmp_path}/*"])[0]), steps=1, trees=1, problems=0)
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; " in page
    assert "form-action 'none'; base-uri 'none'\">" in page
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|fetch\(|XMLHttp|import\(", script)


def test_a_fragment_escapes_all_text(tmp_path: Path) -> None:
    run = read_run(fake_run(tmp_path / "a", text=HOSTILE))
    tags = Tags()
    tags.feed(pages.fragment(page_data.logged(run, 3)[0]))
    assert not tags.open
    assert not tags.seen & {"script", "img"}
    assert tags.words.count(HOSTILE) == 4  # question, answer, text and carried progress


def test_a_fragment_of_a_graph_names_the_quoted_turns() -> None:
    turns = [turn([0], 0.5), turn([1], -0.5), turn([0, 0], 0.0, sources=[[1], [0]])]
    fragment = pages.fragment({"problem": {"id": "p", "question": "q", "answer": "4"}, "turns": turns})
    assert "<span>quotes 2, 1</span>" in fragment
    assert fragment.count("<section") == 3


def test_the_page_keeps_line_breaks_at_the_start_of_a_response(tmp_path: Path) -> None:
    """Browsers drop the first line break in <pre>."""
    run = read_run(fake_run(tmp_path / "a", text="\n\nx"))
    assert "<pre>\n\n\nx</pre>" in pages.fragment(page_data.logged(run, 3)[0])


def test_the_page_shows_the_tree(tmp_path: Path) -> None:
    run = read_run(fake_run(tmp_path / "a"))
    fragment = pages.fragment(page_data.logged(run, 3)[0])
    colours = re.findall(r"rgba\(var\(--(up|down)\), ([\d.]+)\)\">advantage ([+-][\d.]+)", fragment)
    assert colours == [("up", "0.60", "+0.70"), ("down", "0.60", "-0.70")]
    for words in (
        "2 continuations, values 1.00, 1.00",
        "carried (cut): ",
        "by <bdi>base</bdi>",
        "did not learn",
        "no value",
    ):
        assert words in fragment
    assert '<span class="bad">truncated</span>' in fragment
    assert fragment.count("<section") == 4
    assert fragment._repr_html_() == fragment


def test_the_page_holds_the_rollouts_and_answers_asked_for(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", marks=[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    groups = grouped(find_runs([f"{tmp_path}/*"])[0])
    data = page_data.page_data(groups, steps=2, trees=1, problems=2)
    key = data["places"][0]["name"].partition(".")[0]
    about = {"letter": "A", "seed": 0, "run": "a, seed 0"}
    assert data["places"] == [
        {**about, "name": f"{key}.0.training", "where": "training step"},
        {**about, "name": f"{key}.0.sums.easy.3.after", "where": "easy, 3 rounds, after training"},
    ]
    assert data["terms"] == ["outcome"]
    assert [(one["place"], one["step"], one["id"]) for one in data["rollouts"]] == [
        *((0, 1, "p"), (0, 3, "p")),
        *((1, None, "p0"), (1, None, "p0"), (1, None, "p1"), (1, None, "p1")),
    ]
    first, answer = data["rollouts"][0]["turns"], data["rollouts"][2]["turns"]
    assert [(one["number"], one["prompt"], one["sources"]) for one in first] == [
        *(("1", "", []), ("2", "", []), ("1.1", "1", [0]), ("1.2", "1", [0])),
    ]
    assert [(one["text"], one["sources"], one["correct"]) for one in answer] == [("half", [], None), ("fine", [0], 1.0)]
    last = page_data.page_data(groups, steps=1, trees=5, problems=0)
    assert [one["step"] for one in last["rollouts"]] == [3, 3]
    assert page_data.spread(range(1, 14), 4) == [1, 5, 9, 13]


def test_the_page_holds_as_many_seeds_as_asked_for(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        fake_run(tmp_path / str(seed), seed, marks=[[1.0]])
    groups = grouped(find_runs([f"{tmp_path}/*"])[0])
    for seeds in (1, 2):
        places = page_data.page_data(groups, steps=1, trees=1, problems=1, seeds=seeds)["places"]
        assert [(one["letter"], one["seed"]) for one in places] == [("A", seed) for seed in range(seeds) for _ in "ab"]


def test_names_of_places_are_unique_and_the_same_in_each_report(tmp_path: Path) -> None:
    for folder, seed, prompt in (("b", 0, "long"), ("c", 1, "long"), ("a", 0, "short")):
        fake_run(tmp_path / folder, seed, marks=[[1.0]], settings={"model": {"prompt": prompt}})
    alone, all_runs = (
        page_data.page_data(grouped(find_runs(patterns)[0]), steps=1, trees=1, problems=1, seeds=2)["places"]
        for patterns in ([f"{tmp_path}/b"], [f"{tmp_path}/*"])
    )
    names = [place["name"] for place in all_runs]
    assert len(set(names)) == len(names) == 6
    (letter,) = {place["letter"] for place in all_runs if place["seed"] == 1}  # the group with two seeds
    assert [place["name"] for place in alone] == [
        place["name"] for place in all_runs if (place["letter"], place["seed"]) == (letter, 0)
    ]


def test_answers_keep_the_graph_of_their_turns() -> None:
    record = {"id": "p", "question": "q", "gold": "4", "correct": 1.0, "texts": ["a", "b", "c"]}
    record |= {"carried": [""] * 3, "tokens": [1] * 3, "statuses": ["done"] * 3}
    record |= {"paths": [[0], [1], [0, 0]], "sources": [[], [], [[1], [0]]]}
    assert [one["sources"] for one in page_data.answer(record)["turns"]] == [[], [], [1, 0]]


def test_the_running_mean_starts_with_the_first_full_window() -> None:
    assert series.running_mean([1.0, 3.0, 5.0, 1.0], 2) == [2.0, 4.0, 3.0]
    assert series.running_mean([1.0, 3.0], 1) == [1.0, 3.0]


def test_curves_draw_seeds_thin_and_their_mean_thick(tmp_path: Path) -> None:
    for seed in (0, 2):
        fake_run(tmp_path / str(seed), seed)
    left, right, *below = plots.curves(grouped(find_runs([f"{tmp_path}/*"])[0])).axes
    assert len(below) == 3
    *seeds, mean = right.get_lines()
    assert [line.get_linewidth() for line in (*seeds, mean)] == [0.8, 0.8, 2.2]
    assert list(mean.get_xdata()) == [1, 2, 3]
    assert list(mean.get_ydata()) == pytest.approx([0.61, 0.71, 0.81])
    assert len(left.get_lines()) == 3


def test_plots_leave_out_panels_without_data(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "a", base=None)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    write_jsonl(
        folder / "metrics.jsonl",
        [{name: value for name, value in line.items() if not name.startswith("validation")} for line in lines],
    )
    groups = grouped(find_runs([str(folder)])[0])
    titles = [axes.get_title(loc="left") for axes in plots.curves(groups).axes]
    assert titles == ["Training reward", "Round 1", "Round 2", "Round 3"]
    figure = plots.before_after(tables.results(groups))
    assert figure.axes[0].get_title(loc="left") == "Test accuracy after training, 95 % intervals"


def test_groups_with_fewer_rounds_have_no_line_in_later_panels(tmp_path: Path) -> None:
    short = fake_run(tmp_path / "1", settings={"rounds": {"n": 1}})
    lines = [json.loads(line) for line in (short / "metrics.jsonl").read_text().splitlines()]
    later = ("completion/round_2", "completion/round_3")
    write_jsonl(short / "metrics.jsonl", [{k: v for k, v in line.items() if not k.startswith(later)} for line in lines])
    fake_run(tmp_path / "3")
    axes = plots.curves(grouped(find_runs([f"{tmp_path}/*"])[0])).axes
    assert [len(panel.get_lines()) for panel in axes] == [2, 2, 2, 1, 1]


def test_with_more_groups_than_colours_dashes_differ(tmp_path: Path) -> None:
    for steps in range(9):
        fake_run(tmp_path / str(steps), settings={"train": {"problems": steps}})
    right = plots.curves(grouped(find_runs([f"{tmp_path}/*"])[0])).axes[1]
    looks = {(line.get_color(), line.get_linestyle()) for line in right.get_lines()}
    assert len(looks) == 9


def test_equal_runs_give_byte_equal_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rounds in (1, 3):
        fake_run(tmp_path / "runs" / str(rounds), settings={"rounds": {"n": rounds}})
    (tmp_path / "runs" / "else").mkdir()
    contents = []
    for out in ("first", "second"):
        settings = [f"runs='{tmp_path}/runs/*'", f"out={tmp_path / out}", "steps=2", "trees=1"]
        report(compose("report", settings), tmp_path)
        contents.append({file.name: file.read_bytes() for file in (tmp_path / out).iterdir()})
    tabular = {f"results.{kind}" for kind in ("md", "csv", "tex")}
    pictures = {f"{name}.{kind}" for name in ("curves", "before_after") for kind in ("png", "svg")}
    assert set(contents[0]) == tabular | pictures | {"rollouts.html"}
    assert contents[0] == contents[1]
    assert contents[0]["curves.png"].startswith(b"\x89PNG")
    assert f"left out: {tmp_path}/runs/else" in capsys.readouterr().out
    with pytest.raises(InputError, match="trees=0 must be 1 or more"):
        compose("report", ["runs='*'", "out=x", "trees=0"])


def test_the_command_line(tmp_path: Path) -> None:
    fake_run(tmp_path / "runs" / "0_rounds=3,seed=0")
    command = [sys.executable, "-m", "src.report", f"out={tmp_path}/out"]
    done = subprocess.run([*command, f"runs={tmp_path}/runs/*"], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "rollouts.html").is_file()
    bad = subprocess.run([*command, f"runs={tmp_path}/nothing/*"], cwd=ROOT, text=True, capture_output=True)
    assert bad.returncode == 2
    assert "nothing matches" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_the_report_reads_a_run_that_training_wrote(small_run: Path) -> None:
    run = read_run(small_run)
    summary = json.loads((small_run / "summary.json").read_text())
    rows = tables.results(grouped([run]))
    assert [(row.split, row.rounds, row.trained.estimate) for row in rows] == [
        (value["split"], value["rounds"], value["accuracy"]) for value in summary["evaluations"]["after"]
    ]
    assert len(rows) == 4
    assert plots.curves(grouped([run])).axes
    data = page_data.page_data(grouped([run]), 1, 1, 2)
    assert len({one["where"] for one in data["places"]}) == 1 + 2 * 4
    assert len(data["rollouts"]) == 1 + 2 * 4 * 2 * run.summary["evaluations"]["after"][0]["samples"]
