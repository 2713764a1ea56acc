r"""Sets of numbers in inequalities, as intervals: ``x < -2 \text{ or } 2 < x \le 9`` is ``(-\infty,-2) \cup (2,9]``."""

from __future__ import annotations

import re

SIGN = r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z])|=)"
OR = re.compile(r",? ?(?:\\text ?\{ ?or ?\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor(?![A-Za-z])|\\vee(?![A-Za-z])) ?")
RELATION = re.compile(SIGN)
NAME = re.compile(r"\\?[A-Za-z]+(?: ?_ ?(?:\w|\{\w+\}))?")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "=": "=", "\\ne": "\\ne"}


def union(text: str) -> str:
    """A tidy text as a union of intervals, if it is inequalities of one variable joined by "or"; else unchanged."""
    parts = OR.split(text)
    if len(parts) < 2:
        return text
    found = [interval(part.strip()) for part in parts]
    names = {one[0] for one in found if one}
    if None in found or len(names) != 1:
        return text
    return " \\cup ".join(one[1] for one in found if one)


def interval(text: str) -> tuple[str, str] | None:
    """The variable and the interval of an inequality such as ``x < 3`` or ``1 \\le x < 3``."""
    sides = [side.strip() for side in RELATION.split(text)]
    if len(sides) == 3:
        left, sign, right = sides
        if not NAME.fullmatch(left):
            left, sign, right = right, FLIPPED[sign], left
        if not NAME.fullmatch(left) or not right:
            return None
        return left, {
            "<": f"(-\\infty,{right})",
            "\\le": f"(-\\infty,{right}]",
            ">": f"({right},\\infty)",
            "\\ge": f"[{right},\\infty)",
            "=": f"\\{{{right}\\}}",
            "\\ne": f"(-\\infty,{right}) \\cup ({right},\\infty)",
        }[sign]
    if len(sides) == 5:
        low, first, name, second, high = sides
        if first in (">", "\\ge"):
            low, first, second, high = high, FLIPPED[second], FLIPPED[first], low
        if not NAME.fullmatch(name) or not {first, second} <= {"<", "\\le"} or not low or not high:
            return None
        return name, f"{'(' if first == '<' else '['}{low},{high}{')' if second == '<' else ']'}"
    return None
