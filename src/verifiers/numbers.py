"""Numbers that stand in a text in digits: decimals, powers of ten, fractions, mixed numbers. All are exact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

SIGNIFICANT = 6
"""Digits that a rounded decimal must have to stand for a number which no decimal equals: 0.333333 is a third, 0.33 is
not."""

DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
DECIMAL = re.compile(
    rf"([-+]? ?)({DIGITS}?)(?:\.(\d*))?(?: ?(?:e|E|(?:\\times|\\cdot|\*) ?10 ?\^) ?\{{?([-+]?\d{{1,3}})\}}?)?"
)
FRACTION = re.compile(r"([-+]?) ?(?:(\d+) ?)?\\frac ?(?:\{ ?([-+]?\d+) ?\}|(\d)) ?(?:\{ ?([-+]?\d+) ?\}|(\d))")
RATIO = re.compile(rf"([-+]?) ?(?:(\d+) (?:and )?)?({DIGITS}) ?/ ?({DIGITS})")


@dataclass(frozen=True)
class Number:
    """A number that stands there in digits; ``ulp`` is the size of a decimal's last digit."""

    value: Fraction
    ulp: Fraction | None = None

    def stands_for(self, value: Fraction) -> bool:
        """Whether this is ``value``, rounded or truncated, with at least ``SIGNIFICANT`` significant digits."""
        if self.ulp is None or abs(self.value) < self.ulp * 10 ** (SIGNIFICANT - 1):
            return False
        return abs(self.value - value) < self.ulp and abs(self.value) <= abs(value) + self.ulp / 2


def number(text: str) -> Number | None:
    """The number that a tidy text is: digits with separators, decimals, powers of ten, fractions, mixed numbers."""
    if len(text) > 1 and text[0] == "(" and text[-1] == ")" and "," not in text:
        text = text[1:-1].strip()
    if found := DECIMAL.fullmatch(text):
        sign, whole, decimals, exponent = found.groups()
        if not (whole or decimals):
            return None
        digits = int(re.sub(r"\D", "", whole) + (decimals or ""))
        ulp = Fraction(10) ** (int(exponent or 0) - len(decimals or ""))
        return Number((-digits if sign.strip() == "-" else digits) * ulp, ulp if decimals else None)
    if found := FRACTION.fullmatch(text):
        sign, whole, *parts = found.groups()
        above, below = parts[0] or parts[1], parts[2] or parts[3]
    elif found := RATIO.fullmatch(text):
        sign, whole, above, below = (re.sub(r"[ ,]", "", part or "") for part in found.groups())
    else:
        return None
    if int(below) == 0 or (whole and (int(above) < 0 or int(below) < 0)):
        return None
    value = int(whole or 0) + Fraction(int(above), int(below))
    return Number(-value if sign == "-" else value)


def same(left: Number, right: Number) -> bool:
    """Whether two numbers are equal, or one is the other rounded where no decimal equals that."""
    if left.value == right.value:
        return True
    return any(
        rounded.stands_for(exact.value) and not terminates(exact.value)
        for rounded, exact in ((left, right), (right, left))
    )


def terminates(value: Fraction) -> bool:
    """Whether a decimal equals ``value``: its denominator divides a power of ten."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1
