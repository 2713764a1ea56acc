r"""Normalize short answers: LaTeX formatting, plain numbers, units, number bases and words.

Pure and linear in the text; nothing here evaluates or raises. ``verdict`` settles most pairs of answers;
``src.verifiers.equivalence`` judges the rest.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from src.verifiers.notation import balanced, one_notation
from src.verifiers.numbers import Number, number, same
from src.verifiers.units import agree, quantity

SPELLINGS = {
    **dict.fromkeys("−–—﹣－", "-"),
    **{"×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge "},
    **{"∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "∅": r"\emptyset ", "°": r"^\circ ", "％": "%"},
    **{"²": "^2", "³": "^3", "\u00a0": " ", "\u2009": " ", "\u202f": " "},
}
"""Characters that stand for LaTeX."""

COSMETICS = [
    (r"(?<=,)(?:\\!|\{\\!\}) ?", ""),
    (r"\\!|\{\\!\}|\\(?:displaystyle|textstyle|left|right|[bB]igg?[lr]?|limits)(?![A-Za-z])", ""),
    (r"(?<!\\)\\[,;:> ]|~|\\q?quad(?![A-Za-z])|\\hspace\{[^{}]*\}", " "),
    (r"\{,\}", ","),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (
        r"\\(?:mbox|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|bm|emph)(?![A-Za-z])",
        r"\\text",
    ),
    (r"\\text\s*\{\s*([-+]?[\d.,]+|[ie])\s*\}", r"\1"),
    (r"\\varnothing(?![A-Za-z])", r"\\emptyset "),
    (r"\\leq(?:slant)?(?![A-Za-z])", r"\\le "),
    (r"\\geq(?:slant)?(?![A-Za-z])", r"\\ge "),
    (r"\\lt(?![A-Za-z])", "<"),
    (r"\\gt(?![A-Za-z])", ">"),
    (r"\\%", "%"),
    (r"\\circ(?![A-Za-z])", r"\\circ "),
    (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
    (r"(?<![A-Za-z\\])(?:infinity|infty|inf)(?![A-Za-z])", r"\\infty "),
    (r"\s+", " "),
]
"""What changes the look of an answer and not its meaning: pattern and replacement, in this order."""

COSMETIC = [(re.compile(pattern), replacement) for pattern, replacement in COSMETICS]

WRAPPERS = [("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("{", "}")]
WRAPPERS += [(f"\\{name}{{", "}") for name in ("boxed", "fbox", "underline", "boldsymbol")]
"""What a whole answer may stand in."""

PLAIN = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
"""A number that needs no reading, as most golds and answers are."""

SPACED = re.compile(r"\d,? \d")
"""Where a space tells two things apart."""

BASE = re.compile(r"\(?([0-9A-F]+)\)? ?_ ?\{? ?(?:\\text ?\{)? ?(\d+|[a-z]+) ?\}?\}?")
BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
BASES |= {"ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16"}


@lru_cache(maxsize=4096)  # the samples of a problem share its gold
def tidy(text: str) -> str:
    """Remove the LaTeX formatting that does not change the meaning of ``text``."""
    if PLAIN.fullmatch(text):
        return text
    text = one_notation(text)
    if not text.isascii():
        for character, latex in SPELLINGS.items():
            text = text.replace(character, latex)
    for pattern, replacement in COSMETIC:
        text = pattern.sub(replacement, text)
    before = None
    while text != before:
        before = text
        text = text.strip().rstrip(".,;\\").strip()
        for start, end in WRAPPERS:
            if len(text) > len(start + end) and text.startswith(start) and text.endswith(end):
                inside = text[len(start) : -len(end)]
                if balanced(inside) and (start != "$" or "$" not in inside.strip("$")):
                    text = inside
    return text


def words(text: str) -> str | None:
    """The words of a tidy text, in lower case, without articles and punctuation; ``None`` if it is not plain words."""
    plain = re.sub(r"\\text ?\{([^{}]*)\}", r"\1", text).strip().strip("\"'`()[]").strip().rstrip(".").casefold()
    plain = re.sub(r"^(?:an?|the) (?=\w)", "", plain)
    plain = re.sub(r"(?<=no) (real )?(solution|root)s$", r" \1\2", plain)
    return " ".join(plain.split()) if re.search("[a-z]", plain) and not re.search(r"[\\{}^_=<>+*/]", plain) else None


def is_text(text: str) -> bool:
    r"""Whether a tidy text is words throughout, as ``\text{…}`` or as a plain word."""
    return re.fullmatch(r"\\text ?\{[^{}]*[A-Za-z][^{}]*\}|[A-Za-z][a-z]{2,}(?: [A-Za-z][a-z]+)*", text) is not None


def based(text: str) -> tuple[str, str] | None:
    """Digits and base of a number such as ``52_8``."""
    if found := BASE.fullmatch(text):
        base = BASES.get(found[2], found[2])
        if base.isdigit() and all(int(digit, 16) < int(base) for digit in found[1]):
            return found[1].lstrip("0") or "0", base
    return None


def verdict(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """Whether two tidy texts mean the same; ``None`` where that takes algebra.

    Plain numbers are compared exactly, or within ``tolerance`` relative to the gold; a percentage as its number or as
    its hundredth. Units that are both known must agree; a unit on one side only does not matter.
    """
    if not answer or not gold:
        return False
    if gold == answer or (
        gold.replace(" ", "") == answer.replace(" ", "") and not SPACED.search(gold + " ; " + answer)
    ):
        return True
    if based(gold) or based(answer):
        return based(gold) == based(answer)
    if is_text(gold) or is_text(answer):
        return words(gold) == words(answer) and words(gold) is not None
    (gold_core, gold_unit), (core, unit) = quantity(gold), quantity(answer)
    if not agree(gold_unit, unit):
        return False
    left, right = number(gold_core), number(core)
    if left is None or right is None:
        return None
    if same(left, right) or abs(left.value - right.value) <= Fraction(tolerance) * abs(left.value):
        return True
    if "%" in (gold_unit, unit) and gold_unit != unit:
        percent, other = (left, right) if gold_unit == "%" else (right, left)
        return same(Number(percent.value / 100), other)
    return False
