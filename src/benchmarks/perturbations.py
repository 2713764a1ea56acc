"""Perturbations of test problems, to measure robustness and to tell reasoning from memorisation.

Numbers and names: GSM-Symbolic (arXiv 2410.05229); order of premises: arXiv 2402.08939; irrelevant context: GSM-IC
(arXiv 2302.00093); typing errors: PromptRobust (arXiv 2306.04528).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from src.benchmarks.base import Splits
from src.types import InputError, Problem

TRIES = 20
"""Attempts to perturb a problem. It stays unchanged if each result equals the original or a training question."""

WORD = re.compile(r"[^\W\d_]+")

MATHS = re.compile(
    r"(?<!\\)\$\$.+?\$\$"
    r"|(?<!\\)\$(?!\s)(?:[^$\\]|\\.)+(?<!\s)\$(?!\d)"  # pandoc's rule, so that `$20 and $30` are prices
    r"|\\\[.*?\\\]|\\\(.*?\\\)|\[asy\].*?\[/asy\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\\[A-Za-z]+",
    re.DOTALL,
)
"""Text that is not prose: mathematics, Asymptote drawings and LaTeX commands."""

ABBREVIATION = re.compile(r"\b(?:[A-Z]|Mrs?|Ms|Dr|St|Jr|Sr|No|vs|ft|in|oz|lbs?|e\.g|i\.e|[ap]\.m)\.")
BOUNDARY = re.compile(r"[.?!][\"”\u2019')\]]*(\s+)(?![a-z])")
ASKS = re.compile(
    r"\?|\b(?:find|calculate|compute|convert|determine|evaluate|express(?! your)|simplify|solve|what|how)\b",
    re.I,
)
LEANS = re.compile(
    r"\b(?:s?he|it|they|hers?|his|him|its|theirs?|them|th[eo]se|this|that|same|then|next|after|later|also|again|rest"
    r"|remaining|left|others?|another|both|each|finally|however|instead|but)\b",
    re.I,
)
"""Words that refer to the sentence before; the two sentences stay together."""

NUMERAL = re.compile(
    r"three|four|five|seven|eight|nine|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred"
    r"|thousand|million|billion|half|halves|third|quarter|fifth|sixth|tenth|once|twice|double|triple|dozen",
    re.I,
)

DISTRACTORS = (
    "Bus number {} drives past.",
    "The lighthouse on the coast is {} years old.",
    "The radio is playing song number {} of the charts.",
    "A newspaper lies open at page {}.",
    "The neighbours' phone number ends in {}.",
    "The museum downtown has {} windows.",
)

NAMES = (
    frozenset(
        WORD.findall(
            "Abigail Alice Alicia Amanda Amy Ana Andrea Angela Ann Anna Anne Annie Ashley Ava Barbara Becky Bella "
            "Beth Betty Brenda Brittany Carla Carly Carmen Carol Carolyn Cheryl Chloe Christina Cindy Claire Clara "
            "Diane Donna Dorothy Eliza Elizabeth Ella Ellen Elsa Emily Emma Erica Eva Evelyn Gina Greta Gretchen "
            "Haley Hannah Heather Helen Isabella Jane Janet Janice Jasmine Jean Jen Jenna Jennifer Jenny Jessica "
            "Jill Julia Julie Karen Kate Kathy Katie Kayla Kendra Kylie Laura Lauren Leila Lena Linda Lisa Lucy "
            "Madeline Maggie Mandy Marcy Maria Marie Marissa Martha Mary Megan Melanie Melissa Mia Michelle Molly "
            "Monica Nancy Natalia Natalie Nina Nora Olivia Patricia Rachel Rebecca Rita Ruth Sally Samantha Sandra "
            "Sara Sarah Sheila Sonia Sophia Sophie Stacy Stephanie Sue Susan Susie Tammy Tanya Tara Tiffany Tina "
            "Tonya Vanessa Veronica Wendi Wendy Zoe"
        )
    ),
    frozenset(
        WORD.findall(
            "Aaron Adam Ahmed Alan Albert Alexander Andrew Andy Anthony Arnold Arthur Ben Benjamin Bert Billy Bob "
            "Bobby Brandon Brian Bruce Bryan Caleb Calvin Carl Carlos Charles Christopher Connor Dan Daniel Danny "
            "Dave David Dennis Derek Diego Donald Dylan Edward Eric Ethan Finn Fred Gabriel Gary George Gerald Greg "
            "Harry Hassan Henry Ian Isaac Ivan Jack Jacob Jake James Jared Jason Javier Jayden Jeff Jeremy Jerome "
            "Jerry Jim Jimmy Joe John Johnny Jon Jonathan Jose Joseph Josh Juan Justin Keith Ken Kenny Kevin Kyle "
            "Larry Leo Leonard Liam Lucas Luke Manny Marcus Mario Martin Marvin Matt Matthew Michael Mike Nate "
            "Nathan Neil Nicholas Noah Oliver Omar Patrick Paul Pete Peter Phil Philip Ralph Randy Raymond Richard "
            "Rick Robert Rodney Roger Ryan Samuel Sean Simon Stan Stephen Steve Steven Ted Theo Thomas Tim Tobias "
            "Toby Todd Tom Tommy Tony Trevor Tyler Walter William Zachary"
        )
    ),
)
"""Names of women and names of men; a name is replaced by one of the same set, so that pronouns still fit. No name is
also a month, a place or a common word."""

PROSE = ("reordered", "distractor", "names", "typos")
VALID = {
    "chain_sum": ("renumbered", "reordered", "distractor", "typos"),
    "gsm_symbolic": PROSE,
    "family_relationships": PROSE,
    **dict.fromkeys(("basic_arithmetic", "gcd", "lcm", "leg_counting"), ("distractor", "typos")),
}
"""The perturbations that keep the gold answer correct for each reasoning-gym task, and do not change anything that its
verifier reads. Problems of data sets, whose verifier reads only the gold, allow all of ``PROSE``."""


def perturbed(splits: Splits, names: Sequence[str], seed: int = 0) -> Splits:
    """Add perturbed copies of each test split, as ``<split>-<name>``, with the same ids in the same order.

    ``metadata["perturbed"]`` of a problem tells whether it changed. A changed question is never a training or
    validation question.

    Raises:
        InputError: a perturbation does not exist, is not valid for the problems, or changes none of them.
    """
    known = {problem.question for part in (splits.train, splits.validation) for problem in part}
    tests = dict(splits.tests)
    for split, problems in splits.tests.items():
        errors = mistakes(names, {problem.metadata.get("source_dataset") for problem in problems})
        if errors:
            raise InputError(*errors)
        for name in names:
            if f"{split}-{name}" in tests:
                raise InputError(f"benchmark.perturb: the test split {split}-{name} exists already; rename it")
            tests[f"{split}-{name}"] = changed = [_perturb(problem, name, seed, known) for problem in problems]
            if not count_perturbed(changed):
                raise InputError(
                    f"benchmark.perturb: {name} changes no problem of the test split {split}; leave it out"
                )
    return replace(splits, tests=tests)


def unperturbed(split: str, names: Sequence[str]) -> str:
    """The original of a perturbed split, or the split itself if it is not perturbed."""
    return next((split.removesuffix(f"-{name}") for name in names if split.endswith(f"-{name}")), split)


def count_perturbed(problems: Iterable[Problem]) -> int:
    """Number of problems of a perturbed split that differ from their originals."""
    return sum(problem.metadata["perturbed"] for problem in problems)


def mistakes(names: Sequence[str], tasks: Iterable[str | None] = (None,)) -> list[str]:
    """Error messages for perturbation ``names`` on these reasoning-gym tasks (``None``: a data set)."""
    errors = [
        f"benchmark.perturb: {name!r} is not a perturbation; valid: {', '.join(PERTURBATIONS)}"
        for name in names
        if name not in PERTURBATIONS
    ]
    if len(set(names)) < len(names):
        errors.append(f"benchmark.perturb=[{','.join(names)}] has a perturbation twice; remove one")
    for task in sorted(set(tasks), key=str):
        valid = PROSE if task is None else VALID.get(task, ())
        wrong = [name for name in names if name in PERTURBATIONS and name not in valid]
        errors += [f"benchmark.perturb: {_refusal(name, task)}; valid: {', '.join(valid) or 'none'}" for name in wrong]
    return errors


def _refusal(name: str, task: str | None) -> str:
    where = "a data set" if task is None else task
    if name == "renumbered":
        return (
            f"renumbered cannot recompute the gold answer of {where} (only of chain_sum, which stores its expression)"
        )
    return f"{name} is not valid for {where}: it has nothing to change, or its gold or verifier depends on it"


def _perturb(problem: Problem, name: str, seed: int, known: Collection[str]) -> Problem:
    rng = random.Random(f"{seed} {name} {problem.id}")
    for _ in range(TRIES):
        other = PERTURBATIONS[name](problem, rng)
        if other.question != problem.question and other.question not in known:
            return replace(other, metadata={**other.metadata, "perturbed": True})
    return replace(problem, metadata={**problem.metadata, "perturbed": False})


def _renumbered(problem: Problem, rng: random.Random) -> Problem:
    """New numbers with the same number of digits, and the gold recomputed."""
    return _sum(problem, [(sign, _redrawn(number, rng)) for sign, number in _terms(problem)])


def _redrawn(number: str, rng: random.Random) -> str:
    digits = number.lstrip("-")
    low = 10 ** (len(digits) - 1) if len(digits) > 1 else 0
    return number.removesuffix(digits) + str(rng.randint(low, 10 ** len(digits) - 1))


def _reordered(problem: Problem, rng: random.Random) -> Problem:
    """Reorder the terms of a chain sum, each with its sign; for other tasks, the sentences before the question."""
    if problem.metadata.get("source_dataset") == "chain_sum":
        terms = _terms(problem)
        first = terms.pop(rng.choice([place for place, (sign, _) in enumerate(terms) if sign == "+"]))
        rng.shuffle(terms)
        return _sum(problem, [first, *terms])
    pieces = _sentences(problem.question)
    body, end = pieces[: _question(pieces)], pieces[_question(pieces) :]
    blocks: list[list[tuple[str, str]]] = []
    for piece in body:
        if blocks and LEANS.search(piece[0]):
            blocks[-1].append(piece)
        else:
            blocks.append([piece])
    spaces = [block[-1][1] for block in blocks]
    rng.shuffle(blocks)
    moved = [_joined(block).removesuffix(block[-1][1]) for block in blocks]
    text = "".join(block + space for block, space in zip(moved, spaces, strict=True))
    return replace(problem, question=text + _joined(end))


def _distractor(problem: Problem, rng: random.Random) -> Problem:
    """Insert an irrelevant sentence before the question sentence. Its number is never the gold."""
    number = rng.choice([str(number) for number in range(11, 100) if str(number) != problem.answer])
    pieces = _sentences(problem.question)
    place = _question(pieces)
    sentence = (rng.choice(DISTRACTORS).format(number), " ")
    return replace(problem, question=_joined([*pieces[:place], sentence, *pieces[place:]]))


def _names(problem: Problem, rng: random.Random) -> Problem:
    """Replace each person's name by another one. Names in the gold stay."""
    stated = set(WORD.findall(problem.answer))
    words = set(WORD.findall(problem.question)) | stated
    renamed: dict[str, str] = {}
    for group in NAMES:
        present, free = sorted((words & group) - stated), sorted(group - words)
        renamed |= zip(present, rng.sample(free, min(len(present), len(free))), strict=False)
    return replace(problem, question=WORD.sub(lambda word: renamed.get(word[0], word[0]), problem.question))


def _typos(problem: Problem, rng: random.Random) -> Problem:
    """Swap two neighbouring letters in a tenth of the longer words, and in at least one. First letters stay."""
    text = problem.question
    words = [
        word
        for word in re.finditer(r"(?<!\w)[^\W\d_]{4,}(?!\w)", _masked(text))
        if not NUMERAL.match(word[0]) and word[0] not in problem.answer
    ]
    letters = list(text)
    for word in rng.sample(words, min(len(words), max(1, round(len(words) / 10)))):
        pairs = [i for i in range(word.start() + 1, word.end() - 1) if letters[i] != letters[i + 1]]
        if pairs:
            place = rng.choice(pairs)
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return replace(problem, question="".join(letters))


PERTURBATIONS: dict[str, Callable[[Problem, random.Random], Problem]] = {
    "renumbered": _renumbered,
    "reordered": _reordered,
    "distractor": _distractor,
    "names": _names,
    "typos": _typos,
}


def _terms(problem: Problem) -> list[tuple[str, str]]:
    """Signs and numbers of a chain sum: ``3 - 4`` is ``[("+", "3"), ("-", "4")]``."""
    first, *rest = problem.metadata["expression"].split(" ")
    return [("+", first), *zip(rest[::2], rest[1::2], strict=True)]


def _sum(problem: Problem, terms: Sequence[tuple[str, str]]) -> Problem:
    """The chain sum with these terms instead, and its gold."""
    before: str = problem.metadata["expression"]
    expression = terms[0][1] + "".join(f" {sign} {number}" for sign, number in terms[1:])
    total = sum(int(number) if sign == "+" else -int(number) for sign, number in terms)
    metadata: dict[str, Any] = {**problem.metadata, "expression": expression}
    return Problem(problem.id, problem.question.replace(before, expression, 1), str(total), metadata)


def _masked(text: str) -> str:
    """``text`` with everything that is not prose replaced by as many digits; a full stop at its end stays."""

    def mask(found: re.Match[str]) -> str:
        stop = re.search(r"([.?!])\s*(?:\$+|\\\])$", found[0])
        return "0" * (len(found[0]) - 1) + (stop[1] if stop else "0")

    return MATHS.sub(mask, text)


def _sentences(text: str) -> list[tuple[str, str]]:
    """Split ``text`` into sentences, each with the white space after it; joined, they are ``text`` again."""
    masked = ABBREVIATION.sub(lambda found: "0" * len(found[0]), _masked(text))
    spaces = [found.span(1) for found in BOUNDARY.finditer(masked)]
    starts = [0, *(end for _, end in spaces)]
    ends = [*spaces, (len(text), len(text))]
    pieces = ((text[start:stop], text[stop:end]) for start, (stop, end) in zip(starts, ends, strict=True))
    return [piece for piece in pieces if piece != ("", "")]


def _joined(pieces: Iterable[tuple[str, str]]) -> str:
    return "".join(sentence + space for sentence, space in pieces)


def _question(pieces: Sequence[tuple[str, str]]) -> int:
    """Index of the question sentence: the last one with a question mark, else with a question word, else of all."""
    asking = [place for place, (sentence, _) in enumerate(pieces) if ASKS.search(sentence)]
    marked = [place for place in asking if "?" in pieces[place][0]]
    return (marked or asking or [len(pieces) - 1])[-1]
