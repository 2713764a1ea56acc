"""Answers that nobody should write: what a model that is learning, or attacking, may put into a box."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

PIECES = [
    *[
        "0",
        "1",
        "42",
        "9",
        "x",
        "y",
        "i",
        "e",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "^",
        "_",
        "+",
        "-",
        "*",
        "/",
        "=",
        "<",
        ",",
        " ",
        "\\",
        "\\\\",
    ],
    *[
        "\\frac",
        "\\frac{",
        "\\sqrt",
        "\\sqrt[",
        "\\boxed{",
        "\\text{",
        "\\left(",
        "\\right",
        "\\pm",
        "\\cup",
        "\\infty",
    ],
    *[
        "\\int_",
        "\\sum_{i=1}^",
        "\\lim_{x\\to",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\binom",
        "\\log_",
        "!",
        "%",
        "$",
        "&",
    ],
    *["\n", "\t", "\x00", "\x1b[31m", "\u202e", "\U0001f600", "٣", "½", "\ufeff", "\ud800"],
]


def soup(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(1, 40)))


def tower(rng: random.Random) -> str:
    height, base = rng.randint(2, 6), rng.randint(2, 99)
    return f"{base}^{{" * height + str(base) + "}" * height


def factorials(rng: random.Random) -> str:
    return str(rng.randint(3, 10 ** rng.randint(1, 12))) + "!" * rng.randint(1, 6)


def nest(rng: random.Random) -> str:
    opening, closing = rng.choice(
        [("{", "}"), ("(", ")"), ("\\sqrt{", "}"), ("\\frac{1}{", "}"), ("\\left(", "\\right)"), ("[", "]")]
    )
    count = rng.choice([5, 30, 200, 600])
    return opening * count + "x" + closing * (count - rng.randint(0, 2))


def long(rng: random.Random) -> str:
    return rng.choice(["9", "x+", "1,", "\\frac12", "\\text{and}", " ", "\\", "a b ", "1 "]) * rng.choice(
        [50, 300, 1500, 100_000]
    )


def huge(rng: random.Random) -> str:
    return (
        rng.choice(["1e{0}", "10^{{{0}}}", "2^{{{0}}}", "x^{{{0}}}", "(x+1)^{{{0}}}", "0.{0}", "\\binom{{{0}}}{{7}}"])
        .replace("{0}", str(10 ** rng.randint(2, 30)))
        .replace("{{", "{")
        .replace("}}", "}")
    )


def code(rng: random.Random) -> str:
    return rng.choice(
        [
            "__import__('os').system('true')",
            "exec('while 1: pass')",
            "().__class__.__bases__[0].__subclasses__()",
            "lambda: (yield)",
            "{x for x in iter(int, 1)}",
            "9**9**9**9",
            "'a'*10**10",
            "open('/etc/passwd').read()",
        ]
    )


def slow(rng: random.Random) -> str:
    n = rng.randint(3, 40)
    return rng.choice(
        [
            f"\\int_0^1 x^x \\sin(x^{n}) dx",
            f"\\sum_{{k=1}}^{{{10**n}}} \\frac{{1}}{{k^2}}",
            "+".join(f"\\sqrt{{{k}}}" for k in range(2, n)),
            "".join(f"(x_{k}+y_{k})" for k in range(n)),
            f"x^{n}+x^{n - 1}+1=0",
            f"\\sin({n}x)\\cos({n}y)=\\tan({n}z)",
            f"\\prod_{{k=1}}^{{{n}}} (x^k+1)",
        ]
    )


KINDS: list[Callable[[random.Random], str]] = [soup, soup, soup, nest, long, huge, code, tower, factorials, slow]


def hostile(count: int, seed: int = 0) -> Iterator[str]:
    """``count`` strings, of every kind in turn."""
    rng = random.Random(seed)
    for index in range(count):
        yield KINDS[index % len(KINDS)](rng)
