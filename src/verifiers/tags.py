r"""The tags a model writes, ``<reasoning> … </reasoning><answer> … </answer>`` and ``\boxed{…}``, and how they are
read.

Nothing here raises, backtracks or evaluates, whatever the text: every function is a few linear scans.
"""

from __future__ import annotations

import re

REASONING, REASONING_END = "<reasoning>", "</reasoning>"
ANSWER, ANSWER_END = "<answer>", "</answer>"
BOXED = "\\boxed{"
TAGS = (REASONING, REASONING_END, ANSWER, ANSWER_END)

BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
ANSWER_TAGS = re.compile("</?answer>")
HTML_COMMENT = re.compile(r"<!--(?:(?!<!--|-->).)*+-->", re.DOTALL)
LATEX_COMMENT = re.compile(r"([^\\\d\s{][ \t]*+|^[ \t]*+)%[^\n]*", re.MULTILINE)
"""A percent sign after neither a number nor a backslash, to the end of its line."""


def progress(text: str) -> str:
    """The progress that a turn hands on: the text after its last ``<answer>``, up to ``</answer>``. Either tag may be
    missing.

    Source: MOTIF's released code, arXiv 2507.02851.
    """
    return text.rpartition(ANSWER)[2].partition(ANSWER_END)[0].strip()


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{…}`` (or ``\fbox{…}``) with balanced braces, or ``None``; of nested boxes, the
    outermost. Braces after a backslash are characters."""
    opened: list[int | None] = []  # per open brace, where the content of its box starts; None for other braces
    found: tuple[int, int] | None = None
    for brace in BRACES.finditer(text):
        if brace[0].endswith("{") and len(brace[0]) != 2:
            opened.append(brace.end() if len(brace[0]) > 1 else None)
        elif brace[0] == "}" and opened and (start := opened.pop()) is not None:
            found = start, brace.start()
    return text[found[0] : found[1]].strip() if found else None


def stated_answer(text: str) -> str | None:
    r"""The final answer that a turn states: the last ``\boxed{…}`` of its last ``<answer>`` block.

    A text without ``<answer>`` states the last box outside its reasoning. Comments (HTML, LaTeX) state nothing.
    """
    text = HTML_COMMENT.sub("", text)
    block = answer_block(text)
    if block is None:
        block = text.rpartition(REASONING_END)[2].partition(REASONING)[0]
    return boxed(LATEX_COMMENT.sub(r"\1", block))


def answer_block(text: str) -> str | None:
    """The content of the last ``<answer>`` that no other ``<answer>`` contains, or ``None``. It may lack its end."""
    depth, start, found = 0, 0, None
    for tag in ANSWER_TAGS.finditer(text):
        if tag[0] == ANSWER:
            start = start if depth else tag.end()
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                found = text[start : tag.start()]
    return text[start:] if depth else found


def well_formed(text: str) -> bool:
    """Whether a turn is exactly one reasoning block and one answer block, in order, with only white space around
    them."""
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    before, _, rest = text.partition(REASONING)
    _, _, rest = rest.partition(REASONING_END)
    between, _, rest = rest.partition(ANSWER)
    _, closed, after = rest.partition(ANSWER_END)
    return bool(closed) and not (before.strip() or between.strip() or after.strip())
