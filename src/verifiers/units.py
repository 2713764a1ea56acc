r"""Units of physics, written as products of powers: ``\text{ m s}^{-1}``, ``m/s`` and ``\frac{m}{s}`` are the same."""

from __future__ import annotations

import re
from collections import Counter

SYMBOLS = frozenset(
    [
        "m",
        "cm",
        "mm",
        "km",
        "nm",
        "pm",
        "fm",
        "g",
        "mg",
        "kg",
        "s",
        "ms",
        "ns",
        "min",
        "h",
        "K",
        "J",
        "kJ",
        "eV",
        "keV",
        "MeV",
        "GeV",
        "W",
        "kW",
        "MW",
        "V",
        "mV",
        "kV",
        "A",
        "mA",
        "C",
        "N",
        "kN",
        "Pa",
        "kPa",
        "MPa",
        "bar",
        "atm",
        "Hz",
        "kHz",
        "MHz",
        "GHz",
        "T",
        "G",
        "mol",
        "L",
        "mL",
        "erg",
        "dyn",
        "Ohm",
        "F",
        "H",
        "rad",
        "sr",
        "Wb",
        "lm",
        "lx",
        "pc",
        "kpc",
        "Mpc",
        "AU",
        "ly",
        "yr",
        "arcsec",
        "arcmin",
        "rpm",
        "AA",
        "u",
    ]
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
