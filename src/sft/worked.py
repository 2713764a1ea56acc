"""Worked solutions of reasoning-gym's tasks: their steps, and what is left to do after each.

A solution is written from the data that the task itself keeps with a problem, never from its question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from src.benchmarks.reasoning_gym import legs_of
from src.types import Problem

SUM = re.compile(r"-?\d+( [+-] -?\d+)+")
"""An expression of whole numbers that is worked out from left to right."""


class Step(NamedTuple):
    """One line of a worked solution, and what is left of the problem after it; nothing is left after the last one."""

    line: str
    left: str


def sums(data: Mapping[str, Any]) -> list[Step]:
    """Running totals: ``4 - 9 + 3`` gives ``4 - 9 = -5`` (``-5 + 3`` is left) and ``-5 + 3 = -2``."""
    expression = str(data.get("expression", ""))
    if not SUM.fullmatch(expression):
        return []
    first, *terms = expression.split(" ")
    total, steps = int(first), []
    for done, (sign, term) in enumerate(zip(terms[::2], terms[1::2], strict=True), 1):
        after = total + int(term) if sign == "+" else total - int(term)
        steps.append(Step(f"{total} {sign} {term} = {after}", " ".join([str(after), *terms[2 * done :]])))
        total = after
    return steps


def legs(data: Mapping[str, Any]) -> list[Step]:
    """The legs of one kind of animal after another, added up."""
    total, steps = 0, []
    kinds = list(data["animals"].items())
    for done, (animal, count) in enumerate(kinds, 1):
        before, total = total, total + count * legs_of(animal)
        left = [str(total), *(f"{more} {kind}" for kind, more in kinds[done:])]
        steps.append(Step(f"{before} + {count} * {legs_of(animal)} = {total}", ", ".join(left)))
    return steps


def letters(data: Mapping[str, Any]) -> list[Step]:
    """How often the letter stands in one word after another, added up."""
    words, letter, total, steps = data["span"], data["target_letter"], 0, []
    for done, word in enumerate(words, 1):
        total += word.lower().count(letter)
        steps.append(Step(f"{word} {word.lower().count(letter)}, {total}", " ".join([str(total), *words[done:]])))
    return steps


def divisors(data: Mapping[str, Any]) -> list[Step]:
    """Euclid's algorithm by subtraction, for two numbers."""
    if len(data["numbers"]) != 2:
        return []
    small, large = sorted(data["numbers"])
    steps = [Step(f"{small} = {large}", str(small))] if small == large else []
    while small != large:
        difference = large - small
        line = f"{large} - {small} = {difference}"
        small, large = sorted((small, difference))
        steps.append(Step(line, f"{small}, {large}"))
    return steps


def kept(data: Mapping[str, Any]) -> list[Step]:
    """Which numbers of a list are kept, one after another. Two spellings of one number count as the same."""
    numbers, result, steps = data["original_numbers"], data["result"], []
    values, count = {float(number) for number in result}, 0
    for done, number in enumerate(numbers, 1):
        stays = float(number) in values
        count += stays
        left = f"kept {' '.join(result[:count]) or 'none'}, left {' '.join(numbers[done:])}"
        steps.append(Step(f"{number} {'yes' if stays else 'no'}", left))
    return steps


TASKS: Mapping[str, Callable[[Mapping[str, Any]], list[Step]]] = {
    "chain_sum": sums,
    "basic_arithmetic": sums,
    "leg_counting": legs,
    "letter_counting": letters,
    "gcd": divisors,
    "number_filtering": kept,
}
"""How the problems of a task are worked out. Its functions return nothing for problems that they cannot work out."""


def worked(problem: Problem) -> list[Step]:
    """The steps of a problem of one of ``TASKS``, or of any problem whose ``expression`` is a sum; none for others."""
    return TASKS.get(str(problem.metadata.get("source_dataset")), sums)(problem.metadata)
