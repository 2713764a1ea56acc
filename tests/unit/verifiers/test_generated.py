"""Wrong answers made from right ones: none is accepted, over the golds of benchmarks and of physics."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from src.config import ROOT
from src.verifiers.equivalence import Equivalence

DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the benchmarks are not in {DATA}")
FILES = ["gsm8k/train.jsonl", "math500/test.jsonl", "aime2024/test.jsonl"]
PHYSICS = [
    *["\\frac{mM}{m+M}", "\\frac{1}{2}mv^2", "E_0 e^{-t/\\tau}", "\\frac{\\hbar\\omega}{2}", "4.5e33", "1.6 \\AA"],
    *["9.8 \\text{ m/s}^2", "6.67 \\times 10^{-11}", "\\frac{GMm}{R}", "\\sqrt{\\frac{2E}{m}}", "\\frac{v_1+V_1}{2}"],
    *["\\frac{d x}{d t}=kx-a", "2.7778e-6", "\\frac{e^2}{4\\pi r}", "I\\omega^2+Mgh", "3.00 \\times 10^8 m/s"],
]
LETTER = re.compile(r"(?<![\dA-Za-z\\{])[A-Za-z](?![A-Za-z{}])")
WORD = re.compile(r"\\text|\\mbox|[A-Za-z]{4,}|[\\$%]|_")


def golds(file: str) -> list[str]:
    if file == "physics":
        return PHYSICS
    lines = (DATA / file).read_text("utf-8").splitlines()
    return [str(json.loads(line)["answer"]).rpartition("####")[2].strip() for line in lines]


def wrong(gold: str) -> Iterator[str]:
    """Answers that differ from ``gold`` in value."""
    if re.fullmatch(r"-?[\d,]*\d", gold):
        value = int(gold.replace(",", ""))
        changed = {value + 1, value - 1, value + 2, value + 10, value + 100, 10 * value, -value, value**2, 2 * value}
        changed.add(int(str(abs(value))[::-1]))
        yield from (str(other) for other in sorted(changed - {value}))
        yield from (f"{gold} \\text{{ or }} {value + 1}", f"{gold} \\text{{ or more}}", f"x > {gold}", f"y < {gold}")
        yield from (
            f"({gold}, {value + 1})",
            f"\\{{{gold},{value + 1}\\}}",
            f"[{gold}, {value + 1}]",
            f"{gold}, \\ldots",
        )
        yield from (f"\\log x = {gold}", f"{gold}'", f"\\text{{not }} {gold}", f"{gold} + 1", f"{gold}, {value + 1}")
        yield from (f"{gold}.5", f"{gold} \\pm 1", f"{gold} \\text{{ to }} {value + 3}", f"\\sqrt{{{value**2 + 1}}}")
        yield from (f"{gold} \\text{{ dozen}}", f"-{abs(value) + 1}")
        if value:
            yield from (
                f"\\frac{{{value}}}{{7}}",
                f"{gold} thousand",
                f"{gold}x",
                f"{value}e1",
                f"{gold}\\pi",
                f"{gold}i",
            )
        return
    yield from (f"{gold} + 1", f"7({gold})", f"{gold}, 987", f"\\frac{{1}}{{{gold} + 13}}", f"987 < x < {gold}")
    yield from (f"{gold} \\text{{ or }} 987", f"({gold}, 987)", f"\\{{{gold}, 987\\}}", f"{gold}, \\ldots")
    if not WORD.search(gold) and "," not in gold:
        yield from (f"\\sqrt{{{gold} + 17}}", f"({gold})^{{13}} + 7")
        for letter in LETTER.finditer(gold):
            yield gold[: letter.start()] + letter[0].swapcase() + gold[letter.end() :]
            yield gold[: letter.start()] + {"w": "z"}.get(letter[0], "w") + gold[letter.end() :]
    for sign in re.finditer(r"(?<=[\w}] )[-+](?= [\w\\])|(?<=[\w}])[-+](?=[\w\\])", gold):
        if "\\pm" not in gold and "text" not in gold:
            yield gold[: sign.start()] + {"+": "-", "-": "+"}[sign[0]] + gold[sign.end() :]
    if (found := re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", gold)) and found[1] != found[2]:
        yield f"\\frac{{{found[2]}}}{{{found[1]}}}"
    if found := re.fullmatch(r"(?:\\left)?\( ?(-?\d+) ?, ?(-?\d+) ?(?:\\right)?\)", gold):
        first, second = found.groups()
        yield from (f"({first})", f"\\{{{first},{second}\\}}", f"[{first},{second}]", f"{first},{second}")
        if first != second:
            yield f"({second},{first})"
    for digits in re.finditer(r"(?<!\d)\d+(?!\d)", gold):
        if gold[: digits.start()].rstrip().endswith((".", "e", "E")) or gold[digits.end() :].startswith("."):
            continue
        yield gold[: digits.start()] + str(int(digits[0]) + 1) + gold[digits.end() :]


def negatives(name: str) -> list[tuple[str, str]]:
    """Golds with wrong answers, each pair once."""
    return list(dict.fromkeys((gold, answer) for gold in dict.fromkeys(golds(name)) for answer in wrong(gold)))


def accepted(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that are judged to mean the same; two processes judge."""
    equivalent = Equivalence()
    with ThreadPoolExecutor(2) as pool:
        return [pair for pair, same in zip(pairs, pool.map(lambda pair: equivalent(*pair), pairs), strict=True) if same]


def harmless(gold: str) -> Iterator[str]:
    """Other ways to write ``gold``."""
    yield from (f"${gold}$", f" {gold} ", f"{{{gold}}}", f"\\boxed{{{gold}}}", f"{gold}.", f"\\displaystyle {gold}")
    yield from (f"\\( {gold} \\)", f"**{gold}**", f"\\mathbf{{{gold}}}", f"= {gold}", f"{gold}\\!")
    yield from (f"\\color{{red}}{{{gold}}}", f"\\underline{{{gold}}}")
    changed = {
        gold.replace("\\frac", "\\dfrac"),
        gold.replace("\\left", "").replace("\\right", ""),
        re.sub(r"(?<![\\A-Za-z^{(])([-+=]) ?", r" \1 ", gold) if "text" not in gold else gold,
        gold.replace(",", ", ") if "\\" in gold or "(" in gold else gold,
        re.sub(r"\^(\d)(?!\d)", r"^{\1}", gold),
        re.sub(r"_(\w)", r"_{\1}", gold),
        gold.replace("\\cdot", "\\times"),
        gold.replace("\\pi", "π"),
    }
    yield from sorted(changed - {gold})
    if re.fullmatch(r"-?\d+", gold):
        value = int(gold)
        yield from (f"{value:,}", f"{value}.0", f"\\frac{{{2 * value}}}{{2}}", f"x = {value}", f"{value} km")
        yield from (f"{value} \\text{{ apples}}", f"\\${value}", f"\\text{{{value}}}", f"${value} per day")
    if found := re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", gold):
        yield from (f"{found[1]}/{found[2]}", f"\\frac {{{found[1]}}} {{{found[2]}}}", f"({found[1]})/({found[2]})")
        yield f"\\frac{{{3 * int(found[1])}}}{{{3 * int(found[2])}}}"


@pytest.fixture(params=["physics", *FILES])
def name(request: pytest.FixtureRequest) -> str:
    if request.param != "physics" and not DATA.is_dir():
        pytest.skip(f"the benchmarks are not in {DATA}")
    return str(request.param)


def test_a_sample_of_wrong_answers_is_rejected(name: str) -> None:
    made = negatives(name)
    assert accepted(random.Random(name).sample(made, min(100, len(made)))) == []


@pytest.mark.slow
def test_wrong_answers_are_rejected(name: str) -> None:
    assert accepted(negatives(name)) == []


@needs_data
def test_wrong_answers_are_many() -> None:
    assert sum(len(negatives(name)) for name in ("physics", *FILES)) > 30_000


def test_harmless_forms_are_accepted(name: str) -> None:
    pairs = [(gold, answer) for gold in list(dict.fromkeys(golds(name)))[:120] for answer in harmless(gold)]
    right = set(accepted(pairs))
    rejected = [pair for pair in pairs if pair not in right]
    assert len(rejected) <= 0.02 * len(pairs), (len(rejected), len(pairs), rejected)
