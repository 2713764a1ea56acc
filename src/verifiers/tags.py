r"""The tags a model writes, ``<reasoning> … </reasoning><answer> … </answer>`` and ``\boxed{…}``, and how they are
read.

Nothing here raises, backtracks or evaluates, whatever the text: every function is a few linear scans.
"""

from __future__ import annotations

REASONING, REASONING_END = "<reasoning>", "</reasoning>"
ANSWER, ANSWER_END = "<answer>", "</answer>"
BOXED = "\\boxed{"
TAGS = (REASONING, REASONING_END, ANSWER, ANSWER_END)


def progress(text: str) -> str:
    """What a turn hands on: its last ``<answer>``; after an unclosed tag, what follows it; without a tag, everything.

    Source: MOTIF's released code, arXiv 2507.02851.
    """
    start = text.rfind(ANSWER)
    if start < 0:
        return text.strip()
    inside = text[start + len(ANSWER) :]
    return inside.partition(ANSWER_END)[0].strip()


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{…}`` with balanced braces, or ``None``."""
    end = len(text)
    while (start := text.rfind(BOXED, 0, end)) >= 0:
        depth, scan = 1, start + len(BOXED)
        limit = end  # text after a later, unbalanced \boxed{ was already found to lack its brace
        while scan < limit:
            depth += {"{": 1, "}": -1}.get(text[scan], 0)
            if depth == 0:
                return text[start + len(BOXED) : scan].strip()
            scan += 1
        end = start
    return None


def stated_answer(text: str) -> str | None:
    r"""The final answer that a turn states: the last ``\boxed{…}`` of its last ``<answer>``, else of the whole text."""
    inside = boxed(progress(text))
    return inside if inside is not None else boxed(text)


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
