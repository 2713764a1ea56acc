r"""The rewards of MOTIF's released code (arXiv 2507.02851), oddities included; numbers are those of docs/published.md.

Each term has a ``corrected`` form, which does what the term is for.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from src.rewards.base import Term
from src.types import Problem, Scorer, Turn
from src.verifiers.tags import ANSWER, progress

STRICT = r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>"
SOFT = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"


class Accuracy(Term):
    r"""2 for a right answer in the last ``<answer>``, 1 for one elsewhere in the last response, else 0 (oddity 3).

    With one round, as in the released vanilla GRPO, 2 for a right answer anywhere. Right is ``\boxed{gold}`` as a
    substring (oddity 4), and a response without the tag counts as all answer (oddity 2). Corrected: right is what the
    verifier says, and an answer in the tag needs the tag.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
    corrected: bool = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        def right(text: str) -> float:
            return scorer(problem, text) if self.corrected else float(f"\\boxed{{{problem.answer}}}" in text)

        if turn.final and turn.round == 1:  # one round is all there is
            return 2 * right(turn.said)
        inside = "" if self.corrected and ANSWER not in turn.said else progress(turn.said)
        return max(2 * right(inside), right(turn.said))


class Strict(Term):
    """0.5 for both blocks with every tag on a line of its own, and a last newline, else 0.

    Oddity 5: each block may hold one line only, since the dot matches no newline. Corrected: any number of lines, and
    the last newline may be missing.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    corrected: bool = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        ending, flags = (r"\n?$", re.DOTALL) if self.corrected else (r"\n$", re.NOFLAG)
        matched = re.match(STRICT + ending, turn.text, flags)
        return 0.5 * (matched is not None)


class Soft(Term):
    """0.5 for a response that begins with both blocks, else 0.

    Oddity 5: each block must stand on one line together with its tags, which is what the strict form excludes; an
    ordinary response scores 0 on both. Corrected: any number of lines.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    corrected: bool = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return 0.5 * (re.match(SOFT, turn.text, re.DOTALL if self.corrected else re.NOFLAG) is not None)


class Tags(Term):
    r"""0.125 for each of the four tags that stands there once, with its newlines; 0.001 off for what follows the last.

    Oddity 6: what follows is counted twice, by each of the last two tags' rules, and the first of them takes what
    follows ``\n</answer>\n``: where that newline is missing, as after a response that just ends, the whole text. A
    well-formed response of 1,377 characters scores -0.876, and 0.5 with a newline at its end. Corrected: what follows
    ``\n</answer>`` counts once, a newline there not at all.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    corrected: bool = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        text = turn.text
        once = [text.count(tag) == 1 for tag in ("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>")]
        after = text.split("\n</answer>")[-1]
        if self.corrected:
            excess = len(after.removeprefix("\n")) if once[3] else 0
        else:
            excess = once[2] * len(text.split("\n</answer>\n")[-1]) + once[3] * (len(after) - 1)
        return 0.125 * sum(once) - 0.001 * excess
