r"""Whether two mathematical answers mean the same: LaTeX, numbers, sets, intervals, points, matrices, equations, words.

What plain reading settles (``src.verifiers.normalization``) is settled here; the rest is math-verify's (Apache-2.0,
https://github.com/huggingface/Math-Verify), in a process of its own with hard limits on time and memory.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from src.types import Problem
from src.verifiers.normalization import Number, number, quantity, terminates, tidy, verdict
from src.verifiers.sandbox import LONGEST_ANSWER, IsolatedVerifier
from src.verifiers.tags import stated_answer

DEEPEST = 20
"""Open brackets at one place of an answer beyond which it is wrong without being parsed."""

LARGEST = 5
"""Decimal digits of an exponent beyond which a power is not worked out."""

FACTORIAL = re.compile(r"\d{4,} ?[)}]* ?!|! ?[)}]* ?!")
POWERS = re.compile(r"(?:(?:\^|\*\*)[ {(+-]*\d+[ )}]*)+")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
AND = re.compile(r",? ?(?:\\text ?\{ ?(?:and|or) ?\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))")
MEMBER = re.compile(r"^ ?[A-Za-z] ?\\in(?![A-Za-z])")
TEXT = re.compile(r"\\text ?\{[^{}]*\}")
COMPUTES = re.compile(
    r"[-+*/^<>!]|\d ?[A-Za-z\\]|\\(?:frac|sqrt|times|cdot|div|pm|pi|infty|begin|le|ge|ne)(?![A-Za-z])"
)
DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)")


class Equivalence:
    """Judges pairs of answers; safe to share between threads and to send to other processes.

    ``seconds`` and ``memory_mb`` bound what one pair may cost; what exceeds them is not equal.
    """

    def __init__(self, seconds: float = 5.0, memory_mb: int = 512) -> None:
        self.seconds, self.memory_mb = seconds, memory_mb
        self._cached = lru_cache(maxsize=4096)(self._judge)  # samples of a problem often state the same answer

    def __reduce__(self) -> tuple[Any, ...]:
        return Equivalence, (self.seconds, self.memory_mb)

    def __call__(self, gold: str, answer: str) -> bool:
        """Whether ``answer`` means what ``gold`` means; never raises on either."""
        if len(answer) > LONGEST_ANSWER or CONTROL.search(answer):
            return False
        return self._cached(gold, answer)

    def score(self, problem: Problem, text: str) -> float:
        """1 where the answer that ``text`` states means the problem's gold, else 0; a ``Scorer``."""
        answer = stated_answer(text)
        golds = (problem.answer, *problem.metadata.get("answers", ()))  # further right answers
        return float(answer is not None and any(self(gold, answer) for gold in golds))

    def _judge(self, gold: str, answer: str) -> bool:
        gold, answer = tidy(gold), tidy(answer)
        settled = verdict(gold, answer)
        if settled is not None:
            return settled
        if depth(answer) > DEEPEST or explodes(answer):
            return False
        return self.verifier(gold, answer) == 1.0

    @cached_property
    def verifier(self) -> IsolatedVerifier:
        """The process that does algebra."""
        return IsolatedVerifier(build_algebra, (), self.seconds, self.memory_mb)


def depth(text: str) -> int:
    """Most brackets that are open at one place."""
    deepest = open_now = 0
    for character in text:
        open_now += (character in "([{") - (character in ")]}")
        deepest = max(deepest, open_now)
    return deepest


def explodes(text: str) -> bool:
    """Whether a power or a factorial in ``text`` is too large to be worked out, or to be meant."""
    if FACTORIAL.search(text):
        return True
    for found in POWERS.findall(text):
        first, *higher = re.findall(r"\d+", found)
        digits = len(first) * (int(higher[0]) if higher and len(higher[0]) < LARGEST else 1 + LARGEST * len(higher))
        if digits > LARGEST or len(higher) > 1:
            return True
    return False


def plain(text: str) -> str:
    r"""A tidy text without its unit and ``x \in``, and with commas between the members of a list."""
    return MEMBER.sub("", AND.sub(",", quantity(text)[0]))


def sides(text: str) -> list[str]:
    """The sides of an equation that are more than names: 5 of ``x = 5`` and of ``5 = x``, both of ``6 / 2 = 3``."""
    listed = parts(text)
    if len(listed) > 1:
        return [",".join(sides(part)[-1] for part in listed)]
    return [side for side in text.split("=") if not is_name(side)] or [text]


def is_name(text: str) -> bool:
    r"""Whether a side of an equation only names what is asked for, as ``x``, ``f(x)`` and ``\angle ABC`` do."""
    plain = TEXT.sub("x", text)
    return re.search("[A-Za-z]", plain) is not None and COMPUTES.search(plain) is None


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


def exact(decimal: re.Match[str]) -> str:
    """A decimal as the fraction that it is."""
    return f"{{\\frac{{{int(decimal[1] + decimal[2])}}}{{{10 ** len(decimal[2])}}}}}"


def build_algebra() -> Callable[[str, str], float]:
    """The judge that runs in a child process: two tidy texts to 1 or 0."""
    logging.disable(logging.CRITICAL)
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy import I, Symbol

    normal = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    whole = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normal)]

    def read(text: str) -> list[Any]:
        """What the whole text says; math-verify's own time limits need signals, and ours is harder."""
        found = parse(f"${DECIMAL.sub(exact, text)}$", whole, extraction_mode="first_match", parsing_timeout=None)
        return [alike(one) for one in found]

    def alike(one: Any) -> Any:
        """Symbols with the same assumptions on both sides, and i as the imaginary unit."""
        symbols = getattr(one, "free_symbols", ())
        unlike = {
            s: I if s.name == "i" else Symbol(s.name, real=True) for s in symbols if s.name == "i" or not s.is_real
        }
        return one.xreplace(unlike) if unlike else one

    def equal(gold: str, answer: str) -> bool:
        left, right = read(gold), read(answer)
        if verify(left, right, timeout_seconds=None, allow_set_relation_comp=True):
            return True
        return any(rounds(number(one), other) for one, other in ((answer, left), (gold, right)))

    def rounds(decimal: Number | None, found: list[Any]) -> bool:
        """Whether a decimal stands for an expression that no decimal equals."""
        if decimal is None or not found or not getattr(found[0], "is_number", False) or not found[0].is_real:
            return False
        value = Fraction(str(found[0].evalf(40)))
        return decimal.stands_for(value) and not (found[0].is_Rational and terminates(value))

    def judge(gold: str, answer: str) -> float:
        gold, answer = plain(gold), plain(answer)
        if "=" in gold and "=" in answer:  # equations are compared as such
            return float(equal(gold, answer))
        named = sides(gold)
        if len(named) == 1:
            gold = named[0]
        return float(all(equal(gold, side) for side in sides(answer)))

    judge("\\frac{1}{2}", "x+1")  # imports what is imported late, before the limits hold
    return judge
