r"""Notation that is written in several ways, each rewritten into one: powers of ten, repeating decimals, vectors, …"""

from __future__ import annotations

import re

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
TRIGONOMETRIC = r"\\(?:sin|cos|tan|cot|sec|csc)"

REWRITES = [
    ("10", r"(?<=\d) ?(?:x|X|\*|\u00d7) ?(?=\{?10\}? ?(?:\^|\*\*))", r" \\times "),
    ("{10}", r"(?<![\d.])\{10\} ?\^", "10^"),
    ("10", r"(?<![\d.])10 ?(?:\*\*|\^) ?\(?([-+]?\d+)\)?(?![\d^*])", r"10^{\1}"),
    ("/", r"(?<=\d)\.(?= ?/)", ""),
    ("np.", r"(?<![A-Za-z])np\.(arc[a-z]+|sin|cos|tan|sqrt|pi|exp|log)", r"\\\1"),
    ("sqrt", r"\\sqrt ?\(([^()]*)\)", r"\\sqrt{\1}"),
    ("√", r"√ ?(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+|[A-Za-z]))", r"\\sqrt{\1\2\3}"),
    ("sqrt", r"\\sqrt ?\[ ?(\d*[13579]) ?\] ?\{ ?([A-Za-z]) ?(?:\^ ?(?:\{ ?(\d+) ?\}|(\d+)))? ?\}", r"\2^{\3\4/\1}"),
    ("^{/", r"\^\{/", "^{1/"),
    ("\\", r"^ ?\\(?:approx|simeq|therefore)(?![A-Za-z])", ""),
    ("=", r"^ ?= ?", ""),
    ("]", r"^ ?\$?[A-Za-z] ?(?=\([^()\[\]]*\]\$?$)", ""),
    ("[", r"^ ?\$?[A-Za-z] ?(?=\[[^()\[\]]*\)\$?$)", ""),
    ("all real", r"^ ?(?:\\text ?\{)? ?(?:for )?all real(?:s| numbers)? ?\}? ?$", r"(-\\infty, \\infty)"),
    ("infinity", r"\\text ?\{ ?infinity ?\}", r"\\infty "),
    ("\\lg", r"\\lg(?![A-Za-z])", r"\\log_{10}"),
    ("\\log", r"\\log ?_ ?(?:\{ ?e ?\}|e(?![A-Za-z]))", r"\\ln "),
    ("choose", r"\{ ?([^{}]+?) ?\\choose ?([^{}]+?) ?\}", r"\\binom{\1}{\2}"),
    ("C_", r"^ ?C_ ?\{([^{}]+)\} ?\^ ?\{([^{}]+)\} ?$", r"\\binom{\1}{\2}"),
    ("", r"(?<=\d) ?\^? ?\{? ?(?:\\(?:text|mathrm|textrm) ?\{ ?)?(?:st|nd|rd|th)(?: ?\}){0,2} ?$", ""),
    ("langle", r"\\langle(?![A-Za-z])(.*)\\rangle(?![A-Za-z])", r"(\1)"),
    ("\\{", r"^ ?\\\{ ?[A-Za-z] ?(?:\\mid(?![A-Za-z])|\\?\||:) ?([^{}]*)\\\} ?$", r"\1"),
    ("all", r"^ ?\\text ?\{ ?(?:for )?all ?\} ?", ""),
    ("% of", r"(?<=%) ?(?:of )[^{}\d]*$", ""),
    ("of ", r"(?<=%) ?\\text ?\{ ?of [^{}\d]*\} ?$", ""),
    ("frac", r"\\(?:mathbf|boldsymbol|bm|textbf|text) ?\{ ?(\\[dt]?frac ?\{[^{}]*\} ?\{[^{}]*\}) ?\}", r"\1"),
    ("degree", r"\^? ?\{? ?\\degree(?![A-Za-z]) ?\}?", r"^\\circ "),
    (
        "circ",
        rf"({TRIGONOMETRIC}) ?(?:\\left)?[({{]? ?(\d+(?:\.\d+)?) ?\^ ?\{{? ?\\circ ?\}}? ?(?:\\right)?[)}}]?",
        r"\1(\\frac{\2 \\pi}{180})",
    ),
    ("operatorname", r"\\operatorname ?\{", r"\\text{"),
    (
        "equiv",
        r"\(? ?(?:\\[pb]?mod(?![A-Za-z])|\\(?:text|mathrm) ?\{ ?mod ?\}|(?<![A-Za-z])mod(?![A-Za-z]))"
        r" ?\{? ?(\w+) ?\}? ?\)?",
        r" \\pmod{\1}",
    ),
    ("color", r"\\(?:text)?color ?\{[^{}]*\}", ""),
    ("", r"\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge)(?![A-Za-z])", ""),
    ("text", r"^ ?\\text ?\{ ?([-+]?\d[\d.,]*) ([a-z]+(?: [a-z]+)*) ?\} ?$", r"\1 \\text{\2}"),
    (".", r"(?<=\d) ?(?:\\text ?\{ ?)?([ap])\.? ?m\.?(?: ?\})? ?$", r" \\text{\1m}"),
    ("m", r"(?<=:\d\d) ?(?:\\text ?\{ ?)?([ap])\.? ?m\.?(?: ?\})? ?$", r" \\text{\1m}"),
]
"""What a text must hold for the rule to matter ("" for any text), pattern and replacement, in this order."""

REWRITE = [(needle, re.compile(pattern), replacement) for needle, pattern, replacement in REWRITES]
RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"}
VULGAR |= {"⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}
"""Fractions that are one character."""

COUNTED = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
COUNT = {word: str(number) for number, word in enumerate(f"{COUNTED} seventeen eighteen nineteen twenty".split())}
"""Words for numbers, as whole answers."""

BOLD = re.compile(r"\s*\\(?:mathbf|mathrm|textbf) ?\{((?![A-Za-z ]+\}).*)\}\s*", re.DOTALL)
"""A whole answer in bold, unless it is a name."""

SPELLED = re.compile(r" ?(?:\\text ?\{)? ?([A-Za-z]+) ?\}? ?\.? ?")
REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*) ?\\(?:overline|bar) ?\{? ?(\d{1,12}) ?\}?")
DOTTED = re.compile(r"(?<![\d.])(\d*)\.(\d*?) ?\\dot ?\{? ?(\d) ?\}?(?:(\d*) ?\\dot ?\{? ?(\d) ?\}?)?")
BRACKETED = re.compile(r" ?(\d*)\.()\((\d{1,12})\) ?")
GOING_ON = re.compile(
    r"(?<![\d.])(\d{0,20})\.(\d{0,12}?)(\d{1,12}?)((?:\3)+) ?(?:\.\.\.|…|\\(?:[lc]?dots|dotsc)(?![A-Za-z]))"
)
COLUMN = re.compile(r"\\begin ?\{([pb])matrix\}([^&]*)\\end ?\{[pb]matrix\}")
ROWS = re.compile(r"\[ ?(\[[^\[\]]*\](?: ?, ?\[[^\[\]]*\])+) ?\]")
DOLLARS = re.compile(r"(?<!\\)\$([^$]*)(?<!\\)\$")


def one_notation(text: str) -> str:
    """``text`` with every notation of this module in its usual form."""
    if len(re.findall(r"(?<!\\)\$", text)) >= 4 and text.lstrip().startswith("$"):
        text = DOLLARS.sub(r"\1", text)
    if not text.lstrip().startswith("$"):
        text = text.replace("$ $", " ")  # a formula that was broken in two
    if not text.isascii():
        text = RAISED.sub(lambda raised: f"^{{{raised[0].translate(SUPERSCRIPTS)}}}", text)
        for character, ratio in VULGAR.items():
            text = text.replace(character, f"\\frac{{{ratio.replace('/', '}{')}}}")
    if (bold := BOLD.fullmatch(text)) and balanced(bold[1]):
        text = bold[1]
    if (word := SPELLED.fullmatch(text)) and word[1].lower() in COUNT:
        return COUNT[word[1].lower()]
    for needle, pattern, replacement in REWRITE:
        if needle in text:
            text = pattern.sub(replacement, text)
    if "." in text:
        for pattern in (REPEATING, BRACKETED):
            text = pattern.sub(lambda found: fraction(*found.groups()), text)
        text = DOTTED.sub(
            lambda found: fraction(found[1], found[2], found[3] + (found[4] or "") + (found[5] or "")), text
        )
        text = GOING_ON.sub(going_on, text)
    if "[" in text or "matrix" in text:
        text = COLUMN.sub(lambda column: "(" + ",".join(column[2].split(r"\\")) + ")", text)
        text = ROWS.sub(matrix, text)
    return text


def balanced(text: str) -> bool:
    """Whether every brace that opens in ``text`` closes, and no other does; braces after a backslash do not count."""
    depth = 0
    for character in text.replace("\\{", "").replace("\\}", ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def fraction(whole: str, fixed: str, cycle: str) -> str:
    """A repeating decimal as the fraction that it is."""
    nines = 10 ** len(cycle) - 1
    return f"\\frac{{{int(whole + fixed or '0') * nines + int(cycle)}}}{{{nines * 10 ** len(fixed)}}}"


def going_on(found: re.Match[str]) -> str:
    """A decimal that ends in dots: repeating, where its last digits show a cycle three times (twice, if it is long)."""
    whole, fixed, cycle, again = found.groups()
    shown = 1 + len(again) // len(cycle)
    return fraction(whole, fixed, cycle) if shown >= (3 if len(cycle) == 1 else 2) else found[0]


def matrix(rows: re.Match[str]) -> str:
    """A list of lists as a matrix."""
    inside = re.findall(r"\[([^\[\]]*)\]", rows[1])
    return r"\begin{bmatrix}" + r"\\".join(row.replace(",", "&") for row in inside) + r"\end{bmatrix}"
