"""Calculator: evaluates an arithmetic expression exactly (the tool of GSM8K's annotations, arXiv 2110.14168)."""

from __future__ import annotations

import re
from fractions import Fraction

from pydantic import Field

from src.rounds.tool.base import Tool

TOKENS = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|(.))", re.DOTALL)
OPERATORS = {"\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-"}
"""Other signs for the operations."""

LONGEST = 200
"""Characters of an expression; it bounds the depth of parentheses and the size of numbers."""

DIGITS = 12
"""Significant digits of a result that is no whole number."""


class Calculator(Tool):
    """Numbers, + - * /, parentheses and signs; the four operations are exact. Anything else is an error message."""

    opening: str = Field("<calculator>", min_length=1)
    closing: str = Field("</calculator>", min_length=1)
    result: str = "<result>{result}</result>"

    def run(self, text: str) -> str:
        try:
            return _written(evaluated(text))
        except (ValueError, ZeroDivisionError) as error:
            return f"error: {error}"


def evaluated(text: str) -> Fraction:
    """The value of an arithmetic expression.

    Raises:
        ValueError: no such expression. The message says what is wrong.
        ZeroDivisionError: it divides by zero.
    """
    if len(text) > LONGEST:
        raise ValueError(f"expression of {len(text)} characters, at most {LONGEST}")
    if not text.strip():
        raise ValueError("empty expression")
    parser = _Parser([number or OPERATORS.get(sign, sign) for number, sign in TOKENS.findall(_plain(text))])
    value = parser.sum()
    if parser.next:
        raise ValueError(f"unexpected {parser.next!r}")
    return value


class _Parser:
    """Recursive descent over tokens; ``next`` is the first token that is not read yet, "" at the end."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [*tokens, ""]

    @property
    def next(self) -> str:
        return self.tokens[0]

    def sum(self) -> Fraction:
        value = self.product()
        while self.next in ("+", "-"):
            value = value + self.product() if self.tokens.pop(0) == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.factor()
        while self.next in ("*", "/"):
            if self.tokens.pop(0) == "*":
                value *= self.factor()
            elif (divisor := self.factor()) == 0:
                raise ZeroDivisionError("division by zero")
            else:
                value /= divisor
        return value

    def factor(self) -> Fraction:
        token = self.tokens.pop(0) if self.next else ""
        if token in ("+", "-"):
            return self.factor() if token == "+" else -self.factor()
        if token == "(":
            value = self.sum()
            if self.next != ")":
                raise ValueError("missing )")
            self.tokens.pop(0)
            return value
        if not token:
            raise ValueError("the expression ends too early")
        if not any(map(str.isdecimal, token)):
            raise ValueError(f"unexpected {token!r}")
        return Fraction(token)


def _plain(text: str) -> str:
    """Without currency signs, separators of thousands, and an equals sign at the end."""
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))|\$", "", text).strip().removesuffix("=").rstrip()


def _written(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.{DIGITS}g}"
