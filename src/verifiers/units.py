r"""Numbers with units: currencies, rates, words for what is counted, and products of powers of units.

``\text{ m s}^{-1}``, ``m/s`` and ``\frac{m}{s}`` are the same.
"""

from __future__ import annotations

import re
from collections import Counter

from src.verifiers.numbers import number

SYMBOLS = frozenset(
    re.findall(
        r"\S+",
        """
    m cm mm km nm pm fm g mg kg s ms ns min h K J kJ eV keV MeV GeV W kW MW V mV kV A mA C N kN Pa kPa
    MPa bar atm Hz kHz MHz GHz T G mol L mL erg dyn Ohm F H rad sr Wb lm lx pc kpc Mpc AU ly yr arcsec
    arcmin rpm AA u
        """,
    )
)
"""Symbols of units; upper and lower case differ."""

NAMES = {"ergs": "erg", "moles": "mol", "mole": "mol", "arcsecs": "arcsec", "years": "yr", "year": "yr", "sec": "s"}
NAMES |= {"seconds": "s", "second": "s", "meters": "m", "meter": "m", "hours": "h", "hour": "h", "joules": "J"}
NAMES |= {"newtons": "N", "watts": "W", "volts": "V", "kelvin": "K", "hr": "h", "dynes": "dyn", "dyne": "dyn"}
"""Words for units, and their symbols."""

NUMBER = re.compile(
    r"([-+]? ?\d[\d,]*(?:\.\d*)?(?: ?(?:[eE]|(?:\\times|\\cdot) ?10 ?\^) ?\{?[-+]?\d{1,3}\}?)?)(?!\d)(.+)"
)
FRACTION = re.compile(r"\\frac ?\{([^{}]*)\} ?\{([^{}]*)\}")
CIRCLE = re.compile(r"\^ ?\{? ?\\circ ?\}? ?(?=(?:\\text ?\{ ?)?[CFK](?![A-Za-z]))")
TOKEN = re.compile(r" *(?:(/)|(?:\\cdot|\*)|([A-Za-z]+) *(?:\^ *\{? *([-+]?\d) *\}?)?)")

CURRENCY = re.compile(r"([-+]? ?)(?:(?:US|AU|CA|NZ|HK|A|C|S)? ?\\?\$|(€|£|¥|₹|Rs\.?)) ?(?=[\d.])")
SYMBOL = re.compile(r"(.*\d) ?(€|£|¥|₹|¢)")
RATE = re.compile(
    r"(.*[\dA-Za-z}]) ?"
    r"(?:/ ?(?:\\text ?\{ ?)?|\\text ?\{ ?(?:/|per |an? |each |every ) ?|(?<![a-z])(?:per|an?|each|every) )"
    r"(second|minute|hour|day|night|week|month|year|person|item|piece|box|trip|pound|kg)(?: ?\})?"
)
"""A quantity for each of something, and what for."""

UNIT = re.compile(r"(.*[\d})]) ?(?:(\^ ?\{? ?\\circ ?\}?)|(%)|\\text ?\{([^{}]*)\}((?: ?\^ ?\{?\d\}?)?))")
BARE_UNIT = re.compile(r"(.*[\d}]) ?([A-Za-z][A-Za-z /.]*[A-Za-z.](?: ?\^ ?\{?\d\}?)?)")
UNITS = {
    "degree": ("degrees", "deg"),
    "%": ("percent", "pct", "percentage"),
    "dollar": ("dollars", "usd", "$", "buck", "bucks"),
    "cent": ("cents", "¢"),
    "euro": ("euros", "€", "eur"),
    "yen": ("¥", "jpy"),
    "rupee": ("rupees", "₹", "rs", "rs.", "inr"),
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


def split_unit(text: str) -> tuple[str, str] | None:
    """The number and the unit of a tidy text, the unit in one spelling; ``None`` where the text is anything else."""
    found = NUMBER.fullmatch(text)
    if not found:
        return None
    number, rest = found.groups()
    temperature = CIRCLE.match(rest.strip())
    rest = CIRCLE.sub("", rest.strip()) if temperature else rest
    upright = r"\text" in rest or r"\AA" in rest or temperature is not None
    unit = product(FRACTION.sub(r"\1/\2", rest))
    if unit is None or not (upright or "/" in rest or r"\frac" in rest):
        return None  # letters in italics are variables
    return number.strip(), ("deg " if temperature else "") + unit


def product(text: str) -> str | None:
    """A product of powers of units in one spelling, or ``None``."""
    text = re.sub(r"\\text ?\{([^{}]*)\}", r" \1", text).replace(r"\AA", " AA ").strip()
    powers: Counter[str] = Counter()
    place, sign = 0, 1
    while place < len(text):
        token = TOKEN.match(text, place)
        if token is None or token.end() == place:
            return None
        place = token.end()
        if token[1]:
            sign = -1
        elif token[2]:
            name = NAMES.get(token[2], token[2])
            if name not in SYMBOLS:
                return None
            powers[name] += sign * int(token[3] or 1)
            sign = 1
    return " ".join(f"{name}^{power}" for name, power in sorted(powers.items()) if power) or None


def quantity(text: str) -> tuple[str, str | None]:
    """A tidy text without its unit, and the unit by its usual name; unknown units are prose and count as none."""
    if text[:1] == "(" and text[-1:] == ")" and not re.search("[(),]", text[1:-1]):
        text = text[1:-1].strip()
    core, unit = _single(text)
    if unit is None and not number(core) and (found := RATE.fullmatch(text)):
        core, unit = _single(found[1])
        unit = f"{unit} per {found[2]}" if unit else None
    return core, unit


def agree(left: str | None, right: str | None) -> bool:
    """Whether two units may be the same: a rate may leave out what it is for."""
    if left is None or right is None or left == right:
        return True
    return (" per " in left) != (" per " in right) and left.partition(" per ")[0] == right.partition(" per ")[0]


def _single(text: str) -> tuple[str, str | None]:
    """As ``quantity``, for a unit that is no rate."""
    if found := CURRENCY.match(text):
        core, unit = quantity(text[found.end() :])
        currency = KNOWN[(found[2] or "$").lower()]
        rate = RATE.fullmatch(text)
        if unit is None and rate and number(core):
            return found[1].strip() + core, f"{currency} per {rate[2]}"
        return found[1].strip() + (core if unit in (None, currency) else text[found.end() :]), currency
    if found := SYMBOL.fullmatch(text):
        return found[1], KNOWN[found[2]]
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
