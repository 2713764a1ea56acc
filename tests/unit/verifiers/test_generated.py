"""Wrong answers made from right ones: none is accepted, over the golds of benchmarks and of physics."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator

import pytest

from src.config import ROOT
from src.verifiers.equivalence import Equivalence

DATA = ROOT.parent / "shared" / "data"
FILES = ["gsm8k/train.jsonl", "math500/test.jsonl", "aime2024/test.jsonl"]
PHYSICS = [
    *["\\frac{mM}{m+M}", "\\frac{1}{2}mv^2", "E_0 e^{-t/\\tau}", "\\frac{\\hbar\\omega}{2}", "4.5e33", "1.6 \\AA"],
    *["9.8 \\text{ m/s}^2", "6.67 \\times 10^{-11}", "\\frac{GMm}{R}", "\\sqrt{\\frac{2E}{m}}", "\\frac{v_1+V_1}{2}"],
    *["\\frac{d x}{d t}=kx-a", "2.7778e-6", "\\frac{e^2}{4\\pi r}", "I\\omega^2+Mgh", "3.00 \\times 10^8 m/s"],
]
LETTER = re.compile(r"(?<![\dA-Za-z\\{])[A-Za-z](?![A-Za-z{}])")
WORD = re.compile(r"\\text|\\mbox|[A-Za-z]{4,}|[\\$%]|_")


def golds(file: str) -> list[str]:
    lines = (DATA / file).read_text("utf-8").splitlines()
    return [str(json.loads(line)["answer"]).rpartition("####")[2].strip() for line in lines]


def wrong(gold: str) -> Iterator[str]:
    """Answers that differ from ``gold`` in value."""
    if re.fullmatch(r"-?[\d,]*\d", gold):
        value = int(gold.replace(",", ""))
        changed = {value + 1, value - 1, value + 10, 10 * value, -value, value**2, 2 * value}
        changed.add(int(str(abs(value))[::-1]))
        yield from (str(other) for other in sorted(changed - {value}))
        yield from (f"{gold} \\text{{ or }} {value + 1}", f"{gold} \\text{{ or more}}", f"x > {gold}")
        yield from (f"({gold}, {value + 1})", f"\\{{{gold},{value + 1}\\}}", f"{gold}, \\ldots")
        yield from (f"\\log x = {gold}", f"{gold}'", f"\\text{{not }} {gold}", f"{gold} + 1")
        if value:
            yield from (f"\\frac{{{value}}}{{7}}", f"{gold} thousand", f"{gold}x", f"{value}e1")
        return
    yield from (f"{gold} + 1", f"7({gold})", f"{gold}, 987", f"\\frac{{1}}{{{gold} + 13}}")
    if not WORD.search(gold) and "," not in gold:
        for letter in LETTER.finditer(gold):
            yield gold[: letter.start()] + letter[0].swapcase() + gold[letter.end() :]
    for digits in re.finditer(r"(?<!\d)\d+(?!\d)", gold):
        if gold[: digits.start()].rstrip().endswith((".", "e", "E")) or gold[digits.end() :].startswith("."):
            continue
        yield gold[: digits.start()] + str(int(digits[0]) + 1) + gold[digits.end() :]


def judged(name: str, answers: list[str], count: int) -> None:
    generator = random.Random(name)
    made = [(gold, answer) for gold in dict.fromkeys(answers) for answer in wrong(gold)]
    sample = made if len(made) <= count else generator.sample(made, count)
    equivalent = Equivalence()
    assert [pair for pair in sample if equivalent(*pair)] == []


def harmless(gold: str) -> list[str]:
    """Other ways to write ``gold``."""
    return [f"${gold}$", f" {gold} ", f"{{{gold}}}", f"\\boxed{{{gold}}}", f"{gold}.", f"\\displaystyle {gold}"]


@pytest.mark.parametrize("name", ["physics", *FILES])
def test_a_sample_of_wrong_answers_is_rejected(name: str) -> None:
    if name != "physics" and not DATA.is_dir():
        pytest.skip(f"the benchmarks are not in {DATA}")
    judged(name, PHYSICS if name == "physics" else golds(name), 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["physics", *FILES])
def test_thirty_thousand_wrong_answers_are_rejected(name: str) -> None:
    if name != "physics" and not DATA.is_dir():
        pytest.skip(f"the benchmarks are not in {DATA}")
    judged(name, PHYSICS if name == "physics" else golds(name), 25_000)


@pytest.mark.parametrize("name", ["physics", *FILES])
def test_harmless_forms_are_accepted(name: str) -> None:
    if name != "physics" and not DATA.is_dir():
        pytest.skip(f"the benchmarks are not in {DATA}")
    answers = list(dict.fromkeys(PHYSICS if name == "physics" else golds(name)))[:200]
    equivalent = Equivalence()
    pairs = [(gold, answer) for gold in answers for answer in harmless(gold)]
    rejected = [pair for pair in pairs if not equivalent(*pair)]
    assert len(rejected) <= 0.02 * len(pairs), rejected
