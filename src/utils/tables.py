"""Formatting tables as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table. Pipes inside cells are escaped."""
    head, *cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    return str(tabulate(cells, head, tablefmt="github", disable_numparse=True))


def counted(number: int, noun: str) -> str:
    """A number with its noun, e.g. "1 seed" or "2 seeds"."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def labelled(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table whose first column is left out if it is empty; without rows, the text is empty."""
    first = 0 if any(row[0] for row in rows) else 1
    return markdown(headings[first:], [row[first:] for row in rows]) if rows else ""


def latex(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    """Format a LaTeX table for the package booktabs. Columns from index ``numbers_from`` on are right-aligned."""
    align = ["left" if index < numbers_from else "right" for index in range(len(headings))]
    text = tabulate(rows, list(headings), tablefmt="latex_booktabs", disable_numparse=True, colalign=align)
    return str(text).replace("→", r"$\to$").replace("…", r"\dots{}")
