r"""Worked solutions written as multi-round texts, to teach a model the protocol.

The steps of a solution are split over rounds at random, so that no strategy is taught. A round's reasoning is the next
steps. Its answer is its progress: all steps so far, or what is left to do. The answer of the last round is the gold,
``\boxed{…}``.
"""

from __future__ import annotations

import random
import re
from typing import Literal

from src.sft import worked
from src.types import InputError, Problem
from src.verifiers.tags import ANSWER, ANSWER_END, BOXED, REASONING, REASONING_END

_CALCULATOR = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"\s*####")

Progress = Literal["steps", "rest"]
"""What a round of a worked solution passes on: all steps so far, or what is left of the problem."""


def steps(problem: Problem) -> list[str]:
    """The steps of a problem's worked solution.

    They are the lines of ``metadata["solution"]`` (as in GSM8K, arXiv 2110.14168), or those of ``src.sft.worked``.

    Raises:
        InputError: the problem has neither.
    """
    if solution := problem.metadata.get("solution"):
        lines = [_CALCULATOR.sub("", line).strip() for line in str(solution).splitlines() if not _FINAL.match(line)]
        if found := [line for line in lines if line]:
            return found
    if done := worked.worked(problem):
        return [step.line for step in done]
    raise InputError(
        f"problem {problem.id!r} has no worked solution (metadata 'solution') to imitate; valid: "
        f"benchmark=gsm8k, benchmark=chain-sum, or benchmark=reasoning-gym with a task of {', '.join(worked.TASKS)}"
    )


def rest(problem: Problem) -> list[str]:
    """What is left of a problem after each of its steps but the last: ``4 - 9 + 3`` gives ``-5 + 3``.

    Raises:
        InputError: the problem has no solution of ``src.sft.worked``.
    """
    if not (done := worked.worked(problem)):
        raise InputError(
            f"problem {problem.id!r} does not say what is left after a step, which imitation.progress=rest needs; "
            f"valid: imitation.progress=steps, or a task of {', '.join(worked.TASKS)}"
        )
    return [step.left for step in done[:-1]]


def rounds(problem: Problem, count: int, rng: random.Random, progress: Progress = "steps") -> list[str]:
    """Texts of at most ``count`` rounds that contain all steps, at least one step per round.

    Raises:
        InputError: the problem has no worked solution with this ``progress``.
    """
    lines = steps(problem)
    handed = rest(problem) if progress == "rest" else ["\n".join(lines[:end]) for end in range(1, len(lines))]
    count = rng.randint(1, min(count, len(lines)))
    ends = [*sorted(rng.sample(range(1, len(lines)), count - 1)), len(lines)]
    texts = []
    for start, end in zip([0, *ends], ends, strict=False):
        stated = handed[end - 1] if end < len(lines) else f"{BOXED}{problem.answer}}}"
        reasoning = "\n".join(lines[start:end])
        texts.append(f"{REASONING}\n{reasoning}\n{REASONING_END}\n{ANSWER}\n{stated}\n{ANSWER_END}")
    return texts
