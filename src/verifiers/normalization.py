r"""Reading short mathematical answers as people write them: LaTeX's cosmetics, plain numbers, units, bases and words.

Pure and linear in the text; nothing here evaluates or raises. ``verdict`` settles most pairs of answers;
``src.verifiers.equivalence`` judges the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from src.verifiers.notation import one_notation
from src.verifiers.units import split_unit

SIGNIFICANT = 6
"""Digits that a rounded decimal must have to stand for a number which no decimal equals: 0.333333 is a third, 0.33 is
not."""

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
    (r"\\(?:degree|circ)(?![A-Za-z])", r"\\circ "),
    (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
    (r"(?<![A-Za-z\\])(?:infinity|infty|inf)(?![A-Za-z])", r"\\infty "),
    (r"\s+", " "),
]
"""What changes the look of an answer and not its meaning: pattern and replacement, in this order."""

COSMETIC = [(re.compile(pattern), replacement) for pattern, replacement in COSMETICS]

WRAPPERS = [("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), (r"\boxed{", "}"), (r"\fbox{", "}"), ("{", "}")]
"""What a whole answer may stand in."""

DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
DECIMAL = re.compile(
    rf"([-+]? ?)({DIGITS}?)(?:\.(\d*))?(?: ?(?:e|E|(?:\\times|\\cdot|\*) ?10 ?\^) ?\{{?([-+]?\d{{1,3}})\}}?)?"
)
FRACTION = re.compile(r"([-+]?) ?(?:(\d+) ?)?\\frac ?(?:\{ ?([-+]?\d+) ?\}|(\d)) ?(?:\{ ?([-+]?\d+) ?\}|(\d))")
RATIO = re.compile(rf"([-+]?) ?(?:(\d+) )?({DIGITS}) ?/ ?({DIGITS})")
BASE = re.compile(r"\(?([0-9A-F]+)\)? ?_ ?\{? ?(?:\\text ?\{)? ?(\d+|[a-z]+) ?\}?\}?")
BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
BASES |= {"ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16"}

CURRENCY = re.compile(r"([-+]? ?)(?:\\?\$|(€|£)) ?(?=[\d.])")
UNIT = re.compile(r"(.*[\d})]) ?(?:(\^ ?\{? ?\\circ ?\}?)|(%)|\\text ?\{([^{}]*)\}((?: ?\^ ?\{?\d\}?)?))")
BARE_UNIT = re.compile(r"(.*[\d}]) ?([A-Za-z][A-Za-z /.]*[A-Za-z.](?: ?\^ ?\{?\d\}?)?)")
UNITS = {
    "degree": ("degrees", "deg"),
    "%": ("percent", "pct", "percentage"),
    "dollar": ("dollars", "usd", "$", "buck", "bucks"),
    "cent": ("cents", "¢"),
    "euro": ("euros", "€", "eur"),
    "pound": ("pounds", "£", "lb", "lbs"),
    "mm": ("millimeter", "millimeters", "millimetre", "millimetres"),
    "cm": ("centimeter", "centimeters", "centimetre", "centimetres"),
    "m": ("meter", "meters", "metre", "metres"),
    "km": ("kilometer", "kilometers", "kilometre", "kilometres"),
    "inch": ("inches", "in", "in."),
    "foot": ("feet", "ft", "ft."),
    "yard": ("yards", "yd"),
    "mile": ("miles", "mi"),
    "gram": ("grams", "g"),
    "kg": ("kilogram", "kilograms"),
    "ounce": ("ounces", "oz"),
    "liter": ("liters", "litre", "litres", "l"),
    "ml": ("milliliter", "milliliters", "millilitre", "millilitres"),
    "second": ("seconds", "sec", "s"),
    "minute": ("minutes", "min"),
    "hour": ("hours", "hr", "hrs", "h"),
    "day": ("days",),
    "week": ("weeks",),
    "month": ("months",),
    "year": ("years",),
    "mph": ("miles per hour", "mile per hour", "miles/hour"),
    "km/h": ("kmh", "kph", "kilometers per hour", "kilometer per hour", "km per hour"),
}
"""Usual names of units, and their other names."""

CHANGES = frozenset(
    re.findall(
        r"\w+",
        """
        or and not no nor but maybe perhaps possibly wrong incorrect false approximately about around roughly almost
        least most less fewer more greater smaller larger bigger than over under above below up down to through until
        between plus minus times factorial squared cubed half halves third thirds quarter quarters tenth tenths
        hundredth hundredths thousandth thousandths millionth millionths dozen dozens score hundred hundreds thousand
        thousands million millions billion billions trillion trillions pair pairs mod modulo base power root is it isn
        except unless if when where either both neither negative positive inclusive exclusive
        """,
    )
)
"""Words after a number that change what it says."""

KNOWN = {name: unit for unit, names in UNITS.items() for name in (unit, *names)}


@dataclass(frozen=True)
class Number:
    """A number that stands there in digits; ``ulp`` is the size of a decimal's last digit."""

    value: Fraction
    ulp: Fraction | None = None

    def stands_for(self, value: Fraction) -> bool:
        """Whether this is ``value`` rounded or cut to its digits, and has enough of them."""
        if self.ulp is None or abs(self.value) < self.ulp * 10 ** (SIGNIFICANT - 1):
            return False
        return abs(self.value - value) < self.ulp and abs(self.value) <= abs(value) + self.ulp / 2


def tidy(text: str) -> str:
    """``text`` without what changes only its look."""
    text = one_notation(text)
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
                if _balanced(inside) and (start != "$" or "$" not in inside.strip("$")):
                    text = inside
    return text


def _balanced(text: str) -> bool:
    """Whether no brace closes that ``text`` did not open."""
    depth = 0
    for character in text.replace("\\{", "").replace("\\}", ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


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


def quantity(text: str) -> tuple[str, str | None]:
    """A tidy text without its unit, and the unit by its usual name; units nobody knows are prose and count as none."""
    if text[:1] == "(" and text[-1:] == ")" and not re.search("[(),]", text[1:-1]):
        text = text[1:-1].strip()
    if found := CURRENCY.match(text):
        return found[1].strip() + text[found.end() :], KNOWN[found[2] or "$"]
    if found := UNIT.fullmatch(text):
        rest, circle, percent, name, power = found.groups()
        unit = "degree" if circle else "%" if percent else (name or "").strip() + power
        known = _unit(unit)
        if known or not (name or "").strip() or (is_prose(name) and not power):
            return rest.strip(), known
    if (found := BARE_UNIT.fullmatch(text)) and number(found[1]) and (unit := _bare(text[len(found[1]) :])):
        return found[1].strip(), unit if unit in KNOWN.values() or unit[-1].isdigit() else None
    return split_unit(text) or (text, None)


def is_prose(words: str) -> bool:
    """Whether words after a number only say what is counted, as ``red apples`` do, and do not change the number."""
    found = re.findall(r"[^\W\d_]+", words.casefold())
    letters = re.fullmatch(r"[^\W\d_]+(?:[ -][^\W\d_]+)*[.]?", words.strip()) is not None
    return letters and not CHANGES.intersection(found) and any(len(word) > 2 for word in found)


def _bare(text: str) -> str | None:
    """The unit that plain letters after a number are, and not variables: one that is known, or a word."""
    name = _unit(text.strip())
    known = name is not None and re.sub(r"\^\d$", "", name) in KNOWN.values()
    if known and len(text.strip()) > 1:
        return name
    words = text.split()
    prose = text.startswith(" ") and is_prose(text) and all(word.isalpha() and len(word) > 2 for word in words)
    return "prose" if prose else None


def _unit(name: str) -> str | None:
    """The usual name of a unit, with ``^2`` or ``^3`` after it; ``None`` for other words."""
    name = re.sub(r"[{} ]*\^[{} ]*(\d)[{} ]*$", r"^\1", name.strip().casefold())
    for word, power in (("square ", "^2"), ("sq ", "^2"), ("sq. ", "^2"), ("cubic ", "^3")):
        if name.startswith(word):
            name = name.removeprefix(word) + power
    stem, hat, power = name.partition("^")
    return KNOWN[stem.strip()] + hat + power if stem.strip() in KNOWN else None


def words(text: str) -> str | None:
    """The words that a tidy text is, lower case, without articles and punctuation; ``None`` for anything else."""
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
        return (found[1].lstrip("0") or "0", base) if base.isdigit() else None
    return None


def verdict(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """Whether two tidy texts mean the same; ``None`` where that takes algebra.

    Plain numbers are compared exactly, or within ``tolerance`` relative to the gold; a percentage as its number or as
    its hundredth. Units that are both known must agree; a unit on one side only does not matter.
    """
    if not answer or not gold:
        return False
    if gold == answer:
        return True
    if based(gold) or based(answer):
        return based(gold) == based(answer)
    if is_text(gold) or is_text(answer):
        return words(gold) == words(answer) and words(gold) is not None
    (gold_core, gold_unit), (core, unit) = quantity(gold), quantity(answer)
    if gold_unit and unit and gold_unit != unit:
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
