r"""Whether two mathematical answers mean the same: LaTeX, numbers, sets, intervals, points, matrices, equations, words.

Pairs that ``src.verifiers.normalization`` decides are decided in this process. math-verify decides the rest
(Apache-2.0, https://github.com/huggingface/Math-Verify), in a separate process with hard limits on time and memory.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property, lru_cache, partial
from typing import Any

from src.types import Problem
from src.verifiers.kinds import kinds_agree, parts
from src.verifiers.normalization import tidy, verdict
from src.verifiers.numbers import Number, number, terminates
from src.verifiers.sandbox import LONGEST_ANSWER, InterruptedVerdictError, IsolatedVerifier
from src.verifiers.tags import stated_answer
from src.verifiers.unions import union
from src.verifiers.units import quantity

DEEPEST = 20
"""Open brackets at one place of an answer beyond which it is wrong without being parsed."""

PRECISION = 40
"""Digits to which irrational numbers are compared, relative to the larger."""

LARGEST = 5
"""Decimal digits of an exponent beyond which a power is not worked out."""

FACTORIAL = re.compile(r"\d{4,} ?[)}]* ?!|! ?[)}]* ?!")
POWERS = re.compile(r"(?:(?:\^|\*\*)[ {(+-]*\d+[ )}]*)+")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
AND = re.compile(r",? ?(?:\\text ?\{ ?(?:and|or) ?\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))")
MEMBER = re.compile(r"^ ?[A-Za-z] ?\\in(?![A-Za-z])")
TEXT = re.compile(r"\\text ?\{[^{}]*\}")
COMPUTES = re.compile(
    r"[-+*/^<>!|]|\d ?[A-Za-z\\]|\\(?:frac|sqrt|times|cdot|div|pm|pi|infty|begin|le|ge|ne|lfloor|lceil)(?![A-Za-z])"
    r"|\\(?:log|ln|lg|exp|a?(?:sin|cos|tan|cot)h?|arc[a-z]+|sec|csc|det|gcd|max|min|lim)(?![A-Za-z])"
    r"|(?<![A-Za-z\\{])[a-z]{2}(?![A-Za-z])|(?<![A-Za-z])not(?![A-Za-z])"
)
EXPONENT = re.compile(r"(?<![A-Za-z\\\d.])(\d+(?:\.\d+)?|\.\d+)[eE]([-+]?\d{1,3})(?![\d.])")
DEFINITION = re.compile(r"([A-Za-z]) ?\( ?([A-Za-z]) ?\) ?=")
LETTER = r"\\?[A-Za-z]+(?: ?_ ?(?:\w|\{ ?\w+ ?\}))?"
DERIVATIVE = re.compile(rf"\\frac ?\{{ ?d ?({LETTER}) ?\}} ?\{{ ?d ?({LETTER}) ?\}}")
PRIME = re.compile(r"(\\?[A-Za-z]+|[A-Za-z]) ?((?:'|\^ ?\{? ?(?:\\prime ?)+\}?)+)(?: ?_ ?(\w|\{ ?\w+ ?\}))?")
INDEXED_E = re.compile(r"(?<![A-Za-z\\])([eE]) ?_ ?(\w|\{ ?\w+ ?\})")
DEGREES = re.compile(r"(?<=\d) ?\^ ?\{? ?\\circ ?\}?(?= ?[,)]|$)")
ACCENT = re.compile(
    r"\\(d+ot|hat|vec|bar|tilde) ?(?:\{ ?(\\?[A-Za-z]+) ?\}|(\\[A-Za-z]+|[A-Za-z]))(?: ?_ ?(\w|\{ ?\w+ ?\}))?"
)
SUBSCRIPT = re.compile(r"_ ?(?:\{ ?)?\\(?:(?:text|mathrm) ?\{ ?(\w+) ?\}|(odot|oplus|infty|perp|parallel))(?: ?\})?")
FACTOR = re.compile(r"(\\frac ?\{[^{}]*\} ?\{[^{}]*\}) ?(?=\d)")
PRIMES = re.compile(r"'|\\prime")
CAPITAL = re.compile("[A-Z]")
NEGATION = re.compile(r"(?<![A-Za-z])(?:not|no|never|wrong)(?![A-Za-z])", re.IGNORECASE)
DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)")


class Equivalence:
    """Judges pairs of answers; safe to share between threads and to send to other processes.

    ``seconds`` and ``memory_mb`` bound what one pair may cost; what exceeds them is not equal.
    """

    def __init__(self, seconds: float = 2.0, memory_mb: int = 512) -> None:
        self.seconds, self.memory_mb = seconds, memory_mb
        self._cached = lru_cache(maxsize=4096)(self._judge)  # samples of a problem often state the same answer

    def __reduce__(self) -> tuple[Any, ...]:
        return Equivalence, (self.seconds, self.memory_mb)

    def __call__(self, gold: str, answer: str) -> bool:
        """Whether ``answer`` means what ``gold`` means; never raises on either."""
        return self.verdict(gold, answer) == 1.0

    def verdict(self, gold: str, answer: str, tolerance: float = 0.0) -> float:
        """1 where ``answer`` means what ``gold`` means, 0 where it does not, NaN where no verdict is reached.

        With a ``tolerance``, a number is also right if it differs from the gold by at most this share of the gold. What
        runs into a limit is not tried again; a verdict whose process was ended from outside is not remembered.
        """
        if len(answer) > LONGEST_ANSWER or CONTROL.search(answer):
            return 0.0
        try:
            return self._cached(gold, answer, tolerance)
        except InterruptedVerdictError:
            return math.nan

    def score(self, problem: Problem, text: str) -> float:
        """1 where the answer that ``text`` states means one of the problem's golds, else 0 or NaN; a ``Scorer``."""
        answer = stated_answer(text)
        if answer is None:
            return 0.0
        tolerance = problem.metadata.get("tolerance", 0.0)
        undecided = False
        for gold in (problem.answer, *problem.metadata.get("answers", ())):  # further right answers
            verdict = self.verdict(gold, answer, tolerance)
            if verdict == 1:
                return 1.0
            undecided |= math.isnan(verdict)
        return math.nan if undecided else 0.0

    def _judge(self, gold: str, answer: str, tolerance: float) -> float:
        gold, answer = tidy(gold), tidy(answer)
        settled = verdict(gold, answer, tolerance)
        if settled is not None:
            return float(settled)
        gold, answer = union(gold), union(answer)
        if not kinds_agree(AND.sub(",", gold), AND.sub(",", answer)):
            return 0.0
        if number(quantity(gold)[0]) and "=" not in answer and TEXT.search(plain(answer)):
            return 0.0  # words that are no unit say something else than a number
        if depth(answer) > DEEPEST or explodes(answer):
            return 0.0
        return self.verifier(gold, answer, tolerance)

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
    text = MEMBER.sub("", AND.sub(",", quantity(text)[0]))
    return DEGREES.sub("", text) if "," in text else text


def sides(text: str) -> list[str]:
    """The sides of an equation that are more than names: 5 of ``x = 5`` and of ``5 = x``, both of ``6 / 2 = 3``."""
    listed = parts(text)
    if len(listed) > 1:
        values = [sides(part) for part in listed]
        return [",".join(side[0] if len(side) == 1 else part for side, part in zip(values, listed, strict=True))]
    return [side for side in text.split("=") if not is_name(side)] or [text]


def renamed(gold: str, answer: str) -> str:
    """An answer that defines the same function of another variable, with the gold's variable."""
    left, right = DEFINITION.match(gold), DEFINITION.match(answer)
    if not (left and right) or left[1] != right[1] or left[2] == right[2] or re.search(rf"\\{left[2]}", answer):
        return answer
    if re.search(rf"(?<![A-Za-z\\]){left[2]}(?![A-Za-z])", answer):
        return answer  # it means something else there
    return re.sub(rf"(?<![A-Za-z\\]){right[2]}(?![A-Za-z])", left[2], answer)


def is_name(text: str) -> bool:
    r"""Whether a side of an equation only names what is asked for, as ``x``, ``f(x)`` and ``\angle ABC`` do."""
    plain = TEXT.sub(lambda words: words[0] if NEGATION.search(words[0]) else "x", text)
    return re.search("[A-Za-z]", plain) is not None and COMPUTES.search(plain) is None


def exact(decimal: re.Match[str]) -> str:
    """A decimal as the fraction that it is."""
    return f"{{\\frac{{{int(decimal[1] + decimal[2])}}}{{{10 ** len(decimal[2])}}}}}"


def opaque(text: str) -> str:
    """A text whose e-notation is written out, and whose derivatives, accented and primed names are symbols of their
    own."""
    text = SUBSCRIPT.sub(lambda found: f"_{{{found[1] or found[2]}}}", text)
    text = ACCENT.sub(lambda found: f" Q_{{{found[1]}{name_of(''.join(filter(None, found.groups()[1:])))}}} ", text)
    text = FACTOR.sub(r"\1 \\cdot ", text)
    text = EXPONENT.sub(r"{\1 \\times 10^{\2}}", text)
    text = INDEXED_E.sub(lambda found: f" Q_{{{found[1]}{name_of(found[2])}}} ", text)
    text = DERIVATIVE.sub(lambda found: f" Q_{{{name_of(found[1])}{name_of(found[2])}}} ", text)
    return PRIME.sub(lambda found: f"{found[1]}_{{p{len(PRIMES.findall(found[2]))}{name_of(found[3] or '')}}}", text)


def name_of(latex: str) -> str:
    """The letters and digits of a name in LaTeX, to stand in a subscript."""
    return "".join(character for character in latex if character.isalnum())


def numerically_equal(left: Any, right: Any, rounding: int, precision: int) -> bool:
    """Whether two expressions agree: exactly where they are rational, else to ``PRECISION`` digits.

    Takes the place of math-verify's comparison, which takes all numbers below 1e-15 for 0.
    """
    from sympy import Abs, Max, Rational, expand
    from sympy.matrices import MatrixBase

    if isinstance(left, MatrixBase) or isinstance(right, MatrixBase):
        same = isinstance(left, MatrixBase) and isinstance(right, MatrixBase) and left.shape == right.shape
        return same and all(
            numerically_equal(*pair, rounding, precision) for pair in zip(left.flat(), right.flat(), strict=True)
        )
    left, right = left.doit(), right.doit()
    if isinstance(left, Rational) and isinstance(right, Rational):
        return bool(left == right)
    if not (getattr(left, "is_number", False) and getattr(right, "is_number", False)):
        return bool(expand(left - right) == 0)
    if not (left.is_finite and right.is_finite):
        return bool(left == right)
    scale = Max(Abs(left.evalf(PRECISION)), Abs(right.evalf(PRECISION)))
    difference = Abs((left - right).evalf(15, maxn=2 * PRECISION))
    return bool(difference <= scale * Rational(1, 10**PRECISION))


def build_algebra() -> Callable[[str, str, float], float]:
    """The judge that runs in a child process: two tidy texts to 1 or 0."""
    logging.disable(logging.CRITICAL)
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy
    from math_verify import LatexExtractionConfig, grader, parse, parser, verify
    from sympy import FiniteSet, I, Symbol

    parser.latex2sympy = partial(latex2sympy, conversion_config=ConversionConfig(lowercase_symbols=False))
    grader.sympy_numeric_eq = numerically_equal

    normal = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    whole = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normal)]

    def read(text: str) -> list[Any]:
        """What the whole text says; math-verify's own time limits need signals, and ours is harder."""
        found = parse(
            f"${DECIMAL.sub(exact, opaque(text))}$", whole, extraction_mode="first_match", parsing_timeout=None
        )
        return [alike(one) for one in found]

    def alike(one: Any) -> Any:
        """Symbols with the same assumptions on both sides, i as the imaginary unit, and capitals marked, because
        math-verify folds the case of long names."""
        symbols = getattr(one, "free_symbols", ())
        renamed = {s: I if s.name == "i" else Symbol(CAPITAL.sub(r"^\g<0>", s.name), real=True) for s in symbols}
        return one.xreplace(renamed) if renamed else one

    def equal(gold: str, answer: str, tolerance: float) -> bool:
        left, right = read(gold), read(answer)
        if any(rounds(number(one), other) for one, other in ((answer, left), (gold, right))):
            return True  # first, since algebra takes long over decimals of many digits
        if verify(left, right, timeout_seconds=None, allow_set_relation_comp=True):
            return True
        return tolerance > 0 and near(left, right, tolerance)

    def near(left: list[Any], right: list[Any], tolerance: float) -> bool:
        """Whether the second of two numbers differs from the first by at most ``tolerance`` of it."""
        found = [next(iter(side[0])) if isinstance(side[0], FiniteSet) else side[0] for side in (left, right) if side]
        if len(found) < 2 or not all(getattr(one, "is_number", False) and one.is_real for one in found):
            return False
        gold, answer = (Fraction(str(one.evalf(PRECISION))) for one in found)
        return abs(answer - gold) <= Fraction(tolerance) * abs(gold)

    def rounds(decimal: Number | None, found: list[Any]) -> bool:
        """Whether a decimal is the rounded value of an expression without a finite decimal expansion, such as 1/3."""
        if decimal is None or not found or not getattr(found[0], "is_number", False) or not found[0].is_real:
            return False
        value = Fraction(str(found[0].evalf(40)))
        return decimal.stands_for(value) and not (found[0].is_Rational and terminates(value))

    def judge(gold: str, answer: str, tolerance: float) -> float:
        gold, answer = plain(gold), plain(answer)
        if "=" in gold and "=" in answer:  # equations are compared as such
            return float(equal(gold, renamed(gold, answer), 0.0))
        named = sides(gold)
        if len(named) == 1:
            gold = named[0]
        return float(all(equal(gold, side, tolerance) for side in sides(answer)))

    judge("\\frac{1}{2}", "x+1", 0.0)  # imports what is imported late, before the limits hold
    return judge
