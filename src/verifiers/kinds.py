r"""The kind of an answer, as its brackets and signs tell: tuple, set, list, interval, inequality.

Answers of different kinds are not compared, whatever their members.
"""

from __future__ import annotations

import re

RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|neq|lt|gt)(?![A-Za-z])")
ELLIPSIS = re.compile(r"\\(?:[lcd]?dots|dotsc|dotsb)(?![A-Za-z])|\.\.\.|…")
CLOSED_INFINITY = re.compile(r"\\infty ?\]|\[ ?-? ?\\infty")


CLOSED = re.compile(r"^[^(\[]*[)\]]")
"""Text in which a bracket closes that does not open there."""

MARKED = re.compile(r"\d ?(?:'|\^ ?\{? ?\\prime)")


def parts(text: str) -> list[str]:
    """What the commas outside of brackets separate."""
    found, open_now = [""], 0
    for character in text:
        open_now += (character in "([{") - (character in ")]}")
        if character == "," and open_now <= 0:
            found.append("")
        else:
            found[-1] += character
    return found


def kind(text: str) -> str:
    """``pair`` in parentheses (a point or an open interval), ``set``, ``list``, ``interval``, ``inequality`` or
    ``value`` of a tidy text."""
    if RELATION.search(text):
        return "inequality"
    if text.startswith("\\{") and text.endswith("\\}"):
        return "set"
    if len(parts(text)) > 1:
        return "list"
    whole = text[:1] + text[-1:]
    if len(parts(text[1:-1])) > 1 and whole in ("()", "[]", "(]", "[)") and not CLOSED.search(text[1:-1]):
        return "pair" if whole == "()" else "interval"
    return "value"


OPPOSED = frozenset(
    {("list", "pair"), ("set", "pair"), ("interval", "pair"), ("list", "inequality"), ("set", "inequality")}
)
"""Kinds that never mean the same, in either order."""


def kinds_agree(gold: str, answer: str) -> bool:
    """Whether two tidy texts may mean the same as far as their kinds go."""
    if bool(ELLIPSIS.search(gold)) != bool(ELLIPSIS.search(answer)):
        return False
    if CLOSED_INFINITY.search(answer) and not CLOSED_INFINITY.search(gold):
        return False
    if bool(MARKED.search(gold)) != bool(MARKED.search(answer)):  # a prime may mean minutes or feet
        return False
    left, right = kind(gold), kind(answer)
    return (left, right) not in OPPOSED and (right, left) not in OPPOSED
