r"""Worked solutions written as multi-round texts, to teach a model the protocol.

The steps of a solution are split over rounds at random, so that no strategy is taught. A round's reasoning is the next
steps. Its answer is its progress: all steps so far, or what is left to do. The answer of the last round is the gold,
``\boxed{…}``.
"""

from __future__ import annotations

import random
import re
from typing import Literal

from src.types import InputError, Problem
from src.verifiers.tags import ANSWER, ANSWER_END, BOXED, REASONING, REASONING_END

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"\s*####")
_SUM = re.compile(r"-?\d+( [+-] -?\d+)+")

Progress = Literal["steps", "rest"]
"""What a round of a worked solution passes on: all steps so far, or the part of a chain sum that is left."""


def steps(problem: Problem) -> list[str]:
    """The steps of a problem's worked solution.

    They are the lines of ``metadata["solution"]`` (as in GSM8K, arXiv 2110.14168), or the running totals of a chain sum
    (``metadata["expression"]``).

    Raises:
        InputError: the problem has neither.
    """
    if solution := problem.metadata.get("solution"):
        lines = [_CALCULATOR.sub("", line).strip() for line in str(solution).splitlines() if not _FINAL.match(line)]
        if worked := [line for line in lines if line]:
            return worked
    if expression := _sum(problem):
        return [f"{total} {sign} {term} = {after}" for total, sign, term, after in _totals(expression)]
    raise InputError(
        f"problem {problem.id!r} has no worked solution (metadata 'solution') to imitate; valid: "
        "benchmark=gsm8k, or benchmark=chain-sum"
    )


def rest(problem: Problem) -> list[str]:
    """What is left of a chain sum after each of its steps but the last: ``4 - 9 + 3`` gives ``-5 + 3``.

    Raises:
        InputError: the problem is not a chain sum.
    """
    expression = _sum(problem)
    if not expression:
        raise InputError(f"problem {problem.id!r} is not a chain sum: imitation.progress=rest needs one; use steps")
    terms = expression.split(" ")
    return [" ".join([str(after), *terms[2 * done + 1 :]]) for done, (*_, after) in enumerate(_totals(expression), 1)][
        :-1
    ]


def _sum(problem: Problem) -> str | None:
    """The expression of a chain sum; ``None`` for other problems."""
    expression = str(problem.metadata.get("expression", ""))
    return expression if _SUM.fullmatch(expression) else None


def _totals(expression: str) -> list[tuple[int, str, str, int]]:
    """Running total, sign, term and new total of each step: ``4 - 9 + 3`` gives (4, -, 9, -5) and (-5, +, 3, -2)."""
    first, *terms = expression.split(" ")
    total, steps = int(first), []
    for sign, term in zip(terms[::2], terms[1::2], strict=True):
        after = total + int(term) if sign == "+" else total - int(term)
        steps.append((total, sign, term, after))
        total = after
    return steps


def rounds(problem: Problem, count: int, rng: random.Random, progress: Progress = "steps") -> list[str]:
    """Texts of at most ``count`` rounds that contain all steps, at least one step per round.

    Raises:
        InputError: the problem has no worked solution, or is not a chain sum and ``progress`` is ``rest``.
    """
    worked = steps(problem)
    handed = rest(problem) if progress == "rest" else ["\n".join(worked[:end]) for end in range(1, len(worked))]
    count = rng.randint(1, min(count, len(worked)))
    ends = [*sorted(rng.sample(range(1, len(worked)), count - 1)), len(worked)]
    texts = []
    for start, end in zip([0, *ends], ends, strict=False):
        stated = handed[end - 1] if end < len(worked) else f"{BOXED}{problem.answer}}}"
        reasoning = "\n".join(worked[start:end])
        texts.append(f"{REASONING}\n{reasoning}\n{REASONING_END}\n{ANSWER}\n{stated}\n{ANSWER_END}")
    return texts
