"""The notebooks run completely; they hold no outputs and no logic."""

from __future__ import annotations

import ast
import html
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import src.config
from src.config import ROOT
from tests.helpers import markdown_tables
from tests.unit.reporting.test_report import fake_run

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code(notebook: Path) -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def test_each_notebook_is_run_here() -> None:
    """A new one needs a test of its own."""
    assert {path.stem for path in NOTEBOOKS} == {"one_rollout", "read_a_run", "read_a_study"}


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs, where notebooks look for them."""
    matplotlib.use("agg")
    monkeypatch.setattr(src.config, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(ROOT / "notebooks")
    return tmp_path / "outputs"


def run_cells(notebook: Path) -> tuple[dict[str, Any], list[Any]]:
    """Run all cells; returns the names that they define, and what they show."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(code(notebook), 1):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, tree_name(notebook, number), "exec"), namespace)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), tree_name(notebook, number), "eval"), namespace))
    return namespace, shown


def test_read_a_run_shows_the_newest_run(outputs: Path) -> None:
    fake_run(outputs / "2026-01-01" / "10-00-00.000000", text="older")
    newest = fake_run(outputs / "2026-01-02" / "09-00-00.000000", text="newer")
    namespace, shown = run_cells(ROOT / "notebooks" / "read_a_run.ipynb")
    assert namespace["RUN"] == newest
    assert any("newer" in str(value) for value in shown)


def test_read_a_run_reads_a_run_that_training_wrote(
    outputs: Path, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_run, outputs / "2026-01-01" / "10-00-00.000000")
    _, shown = run_cells(ROOT / "notebooks" / "read_a_run.ipynb")
    summary = json.loads((small_run / "summary.json").read_text())
    printed = markdown_tables.rows(capsys.readouterr().out)
    for result in summary["evaluations"]["after"]:
        (row,) = [row for row in printed if row[:2] == [result["split"], str(result["rounds"])]]
        assert row[3].startswith(f"{100 * result['accuracy']:.1f} [")
    tree = json.loads((small_run / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
    assert any(tree["problem"]["question"] in html.unescape(str(value)) for value in shown)


def test_one_rollout_shows_the_prompts_the_progress_and_the_credit(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace, shown = run_cells(ROOT / "notebooks" / "one_rollout.ipynb")
    turns = namespace["tree"]["turns"]
    assert [turn["round"] for turn in turns] == [1] * 3 + [2] * 6 + [3] * 6
    (fragment,) = [html.unescape(str(one)) for one in shown if "<section" in str(one)]
    assert all(turn["prompt"] in fragment and turn["text"] in fragment for turn in turns)
    printed = capsys.readouterr().out
    assert printed.startswith(turns[0]["prompt"])
    assert f"Progress: {turns[3]['carried']}" in printed
    head, *rows = markdown_tables.rows(printed)
    motif, siblings = rows[:15], rows[16:]
    assert [row[1:3] for row in motif] == [[str(turn["round"]), turn["carried"] or "-"] for turn in turns]
    advantages = [float(row[-1]) for row in motif[:3]]
    assert sum(advantages) == pytest.approx(0, abs=0.02)
    assert max(advantages) > 0.5, "the notebook's problem shows a difference"
    assert [row[-1] for row in motif[3:]] == ["does not learn"] * 12
    assert [row[:-1] for row in siblings] == [row[:-1] for row in motif]  # the same turns
    assert [row[-1] for row in siblings[:3]] == [row[-1] for row in motif[:3]]
    assert any(float(row[-1]) != 0 for row in siblings[3:])
    assert head[-1] == "advantage"


def test_read_a_study_shows_the_recorded_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib.use("agg")
    monkeypatch.setattr(sys, "path", list(sys.path))
    namespace, shown = run_cells(ROOT / "notebooks" / "read_a_study.ipynb")
    report = (namespace["STUDY"] / "report.md").read_text(encoding="utf-8")
    assert shown[0] in report
    printed = markdown_tables.rows(capsys.readouterr().out)
    assert len(printed) > 20
    assert all(row in markdown_tables.rows(report) for row in printed)
    assert sum(str(one).startswith("<img") for one in shown) == 2


def tree_name(notebook: Path, number: int) -> str:
    return f"{notebook.name}, code cell {number}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_holds_no_outputs_and_no_logic(notebook: Path) -> None:
    for cell in code(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        kinds = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If)
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse("".join(cell["source"]))))
