r"""Notation that is written in several ways, each rewritten into one: powers of ten, repeating decimals, vectors, …"""

from __future__ import annotations

import re

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
TRIGONOMETRIC = r"\\(?:sin|cos|tan|cot|sec|csc)"

REWRITES = [
    (r"(?<=\d) ?(?:x|X|\*|\u00d7) ?(?=\{?10\}? ?(?:\^|\*\*))", r" \\times "),
    (r"(?<![\d.])\{10\} ?\^", "10^"),
    (r"(?<![\d.])10 ?(?:\*\*|\^) ?\(?([-+]?\d+)\)?(?![\d^*])", r"10^{\1}"),
    (r"(?<=\d)\.(?= ?/)", ""),
    (r"(?<![A-Za-z])np\.(arc[a-z]+|sin|cos|tan|sqrt|pi|exp|log)", r"\\\1"),
    (r"\\sqrt ?\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"^ ?\\(?:approx|simeq|therefore)(?![A-Za-z])", ""),
    (r"^ ?(?:\\text ?\{)? ?(?:for )?all real(?:s| numbers)? ?\}? ?$", r"(-\\infty, \\infty)"),
    (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
    (r"\{ ?([^{}]+?) ?\\choose ?([^{}]+?) ?\}", r"\\binom{\1}{\2}"),
    (r"^ ?C_ ?\{([^{}]+)\} ?\^ ?\{([^{}]+)\} ?$", r"\\binom{\1}{\2}"),
    (r"(?<=\d) ?\^? ?\{? ?(?:\\(?:text|mathrm|textrm) ?\{ ?)?(?:st|nd|rd|th)(?: ?\}){0,2} ?$", ""),
    (r"\\langle(?![A-Za-z])(.*)\\rangle(?![A-Za-z])", r"(\1)"),
    (r"^ ?\\\{ ?[A-Za-z] ?(?:\\mid(?![A-Za-z])|\\?\||:) ?([^{}]*)\\\} ?$", r"\1"),
    (r"^ ?\\text ?\{ ?(?:for )?all ?\} ?", ""),
    (r"(?<=%) ?\\text ?\{ ?of [^{}\d]*\} ?$", ""),
    (r"\\(?:mathbf|boldsymbol|bm|textbf|text) ?\{ ?(\\[dt]?frac ?\{[^{}]*\} ?\{[^{}]*\}) ?\}", r"\1"),
    (
        rf"({TRIGONOMETRIC}) ?(?:\\left)?[({{]? ?(\d+(?:\.\d+)?) ?\^ ?\{{? ?\\circ ?\}}? ?(?:\\right)?[)}}]?",
        r"\1(\\frac{\2 \\pi}{180})",
    ),
    (r"\\operatorname ?\{", r"\\text{"),
]
"""Pattern and replacement, in this order."""

REWRITE = [(re.compile(pattern), replacement) for pattern, replacement in REWRITES]
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*) ?\\overline ?\{ ?(\d{1,12}) ?\}")
COLUMN = re.compile(r"\\begin ?\{([pb])matrix\}([^&]*)\\end ?\{[pb]matrix\}")
ROWS = re.compile(r"\[ ?(\[[^\[\]]*\](?: ?, ?\[[^\[\]]*\])+) ?\]")
DOLLARS = re.compile(r"(?<!\\)\$([^$]*)(?<!\\)\$")


def one_notation(text: str) -> str:
    """``text`` with every notation of this module in its usual form."""
    if text.isdigit():
        return text
    if len(re.findall(r"(?<!\\)\$", text)) >= 4 and text.lstrip().startswith("$"):
        text = DOLLARS.sub(r"\1", text)
    text = RAISED.sub(lambda raised: f"^{{{raised[0].translate(SUPERSCRIPTS)}}}", text)
    for pattern, replacement in REWRITE:
        text = pattern.sub(replacement, text)
    text = REPEATING.sub(fraction, text)
    text = COLUMN.sub(lambda column: "(" + ",".join(column[2].split(r"\\")) + ")", text)
    return ROWS.sub(matrix, text)


def fraction(repeating: re.Match[str]) -> str:
    """A repeating decimal as the fraction that it is."""
    whole, fixed, cycle = repeating.groups()
    nines = 10 ** len(cycle) - 1
    return f"\\frac{{{int(whole + fixed or '0') * nines + int(cycle)}}}{{{nines * 10 ** len(fixed)}}}"


def matrix(rows: re.Match[str]) -> str:
    """A list of lists as a matrix."""
    inside = re.findall(r"\[([^\[\]]*)\]", rows[1])
    return r"\begin{bmatrix}" + r"\\".join(row.replace(",", "&") for row in inside) + r"\end{bmatrix}"
