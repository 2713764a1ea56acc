"""Reading Markdown tables in tests."""

from __future__ import annotations

import re


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table in ``text``, headings included, without the padding."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in found if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
