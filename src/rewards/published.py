r"""The reward terms of MOTIF's released code (arXiv 2507.02851), with its oddities, numbered as in docs/paper.md.

With ``corrected``, each term does what the paper describes.
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
    r"""2 for a correct answer in the last ``<answer>``, 1 for one elsewhere in the last response, else 0 (oddity 3).

    With one round, as in the released vanilla GRPO, 2 for a correct answer anywhere. An answer is correct if
    ``\boxed{gold}`` is a substring (oddity 4), and without the tag the whole response is the answer (oddity 2).
    Corrected: the verifier decides, and without the tag there is no answer in the tag.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "leaves"
    corrected: bool = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        def right(text: str) -> float:
            return scorer(problem, text) if self.corrected else float(f"\\boxed{{{problem.answer}}}" in text)

        if turn.final and turn.round == 1:  # a rollout of one round
            return 2 * right(turn.said)
        inside = "" if self.corrected and ANSWER not in turn.said else progress(turn.said)
        return max(2 * right(inside), right(turn.said))


class Strict(Term):
    """0.5 for both blocks with every tag on its own line and a newline at the end, else 0.

    Oddity 5: each block must be a single line, because the dot does not match newlines. Corrected: any number of lines,
    and the last newline is optional.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    judged: ClassVar[bool] = False
    corrected: bool = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        ending, flags = (r"\n?$", re.DOTALL) if self.corrected else (r"\n$", re.NOFLAG)
        matched = re.match(STRICT + ending, turn.text, flags)
        return 0.5 * (matched is not None)


class Soft(Term):
    """0.5 for a response that begins with both blocks, else 0.

    Oddity 5: each block must be on the same line as its tags, which the strict form excludes. An ordinary response
    scores 0 on both. Corrected: any number of lines.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    judged: ClassVar[bool] = False
    corrected: bool = False

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        return 0.5 * (re.match(SOFT, turn.text, re.DOTALL if self.corrected else re.NOFLAG) is not None)


class Tags(Term):
    r"""0.125 for each of the four tags that occurs once, with its newlines; minus 0.001 per character after the last.

    Oddity 6: the rules of the last two tags both subtract the excess characters. The first of them splits at
    ``\n</answer>\n``; if a response ends without that last newline, the excess is the whole text. A well-formed
    response of 1,377 characters scores -0.876, and 0.5 with a newline at its end. Corrected: characters after
    ``\n</answer>`` are subtracted once, without a newline directly after the tag.
    """

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    judged: ClassVar[bool] = False
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
