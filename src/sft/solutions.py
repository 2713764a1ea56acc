r"""Worked solutions written as multi-round texts, to teach a model the protocol.

The steps of a solution are split over rounds at random, so that no strategy is taught. A round's reasoning is the next
steps and its answer all steps so far; the answer of the last round is the gold, ``\boxed{…}``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from src.types import InputError, Problem
from src.verifiers.tags import ANSWER, ANSWER_END, BOXED, REASONING, REASONING_END

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"\s*####")
_SUM = re.compile(r"-?\d+( [+-] -?\d+)+")


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
    if _SUM.fullmatch(expression := str(problem.metadata.get("expression", ""))):
        return _running_totals(expression)
    raise InputError(
        f"problem {problem.id!r} has no worked solution (metadata 'solution') to imitate; valid: "
        "benchmark=gsm8k, or benchmark=chain-sum"
    )


def _running_totals(expression: str) -> list[str]:
    """The steps of a chain sum: ``4 - 9 + 3`` gives ``4 - 9 = -5`` and ``-5 + 3 = -2``."""
    first, *rest = expression.split(" ")
    total, written = int(first), []
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        after = total + int(term) if sign == "+" else total - int(term)
        written.append(f"{total} {sign} {term} = {after}")
        total = after
    return written


def rounds(worked: Sequence[str], answer: str, count: int, rng: random.Random) -> list[str]:
    """Texts of at most ``count`` rounds that contain all steps, at least one step per round."""
    count = rng.randint(1, min(count, len(worked)))
    ends = [*sorted(rng.sample(range(1, len(worked)), count - 1)), len(worked)]
    texts = []
    for start, end in zip([0, *ends], ends, strict=False):
        progress = "\n".join(worked[:end]) if end < len(worked) else f"{BOXED}{answer}}}"
        reasoning = "\n".join(worked[start:end])
        texts.append(f"{REASONING}\n{reasoning}\n{REASONING_END}\n{ANSWER}\n{progress}\n{ANSWER_END}")
    return texts
