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


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_the_newest_run(notebook: Path, outputs: Path) -> None:
    fake_run(outputs / "2026-01-01" / "10-00-00.000000", text="older")
    newest = fake_run(outputs / "2026-01-02" / "09-00-00.000000", text="newer")
    namespace, shown = run_cells(notebook)
    assert namespace["RUN"] == newest
    assert any("newer" in str(value) for value in shown)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_reads_a_run_that_training_wrote(
    notebook: Path, outputs: Path, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_run, outputs / "2026-01-01" / "10-00-00.000000")
    _, shown = run_cells(notebook)
    summary = json.loads((small_run / "summary.json").read_text())
    printed = markdown_tables.rows(capsys.readouterr().out)
    for result in summary["evaluations"]["after"]:
        (row,) = [row for row in printed if row[:2] == [result["split"], str(result["rounds"])]]
        assert row[3].startswith(f"{100 * result['accuracy']:.1f} [")
    tree = json.loads((small_run / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
    assert any(tree["problem"]["question"] in html.unescape(str(value)) for value in shown)


def tree_name(notebook: Path, number: int) -> str:
    return f"{notebook.name}, code cell {number}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_holds_no_outputs_and_no_logic(notebook: Path) -> None:
    for cell in code(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        kinds = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If)
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse("".join(cell["source"]))))
