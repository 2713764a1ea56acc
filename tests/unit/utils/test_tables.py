"""Markdown and LaTeX tables keep the text of every cell."""

from __future__ import annotations

from src.utils.tables import latex, markdown
from tests.helpers.markdown_tables import rows


def test_markdown_keeps_every_cell_as_text() -> None:
    cells = [["1.0", "007", "1e3"], ["a|b", "*", ""]]
    found = rows(markdown(["x", "a | b", "n"], cells))
    assert found == [["x", "a \\| b", "n"], ["1.0", "007", "1e3"], ["a\\|b", "*", ""]]


def test_markdown_without_rows_is_only_a_heading() -> None:
    assert rows(markdown(["x", "y"], [])) == [["x", "y"]]


def test_latex_escapes_special_characters() -> None:
    lines = latex(["a_b", "before → now"], [["5 % & #1", "1.0"], ["x$y…", "2.50"]], 1).splitlines()
    assert lines[0] == r"\begin{tabular}{lr}"  # numbers are right-aligned
    cells = [[cell.strip() for cell in line.removesuffix(r"\\").split(" & ")] for line in lines if line.endswith(r"\\")]
    assert cells == [[r"a\_b", r"before $\to$ now"], [r"5 \% \& \#1", "1.0"], [r"x\$y\dots{}", "2.50"]]
    assert [line for line in lines if line.startswith("\\") and "rule" in line] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
