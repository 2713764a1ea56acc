"""The notes below tables of results, which explain their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from src.utils.floor import FLOOR

if TYPE_CHECKING:
    from src.reporting.tables import Result

NOTE = (
    "Accuracies in %, changes in points, with 95 % intervals in brackets. With one seed an interval is over problems. "
    "With several seeds, numbers are means over seeds; an interval covers both seeds and problems (the half-widths of "
    "Student's t over seeds and of the mean interval over problems, added in quadrature)."
)
JOINT = (
    "Accuracies in %, changes in points, with 95 % intervals in brackets. With one seed an interval is over problems. "
    "With several seeds, numbers are means over seeds, and an interval is over seeds and problems at once (crossed "
    "random effects; in runs without verdicts by problem in their summary, the half-widths of Student's t over seeds "
    "and of the mean interval over problems, added in quadrature). Intervals are not adjusted for the number of rows."
)
VOTE = (
    "Vote: accuracy of the trained policy's most frequent answer of one round, with as many answers as fit into the "
    "tokens of the row, or as were sampled if these are fewer; their number is in brackets."
)
SEQUENCE = (
    "Tokens in sequence: generated tokens of the longest chain of turns that ends in the answer, where prompts quote "
    "several turns; turns that are read together are generated in parallel."
)
DETECTABLE = (
    "Detectable: the smallest true change that evaluations of this size find in 80 % of repetitions; with one seed, of "
    "these weights on other problems."
)
CORRECTED = "Corrected: for the verifier's errors on labelled answers, which the interval covers too."


def note(rows: Sequence[Result]) -> str:
    """What the numbers of a table are."""
    parts = [JOINT if any(row.joint for row in rows) else NOTE]
    parts += [DETECTABLE] if any(row.detectable is not None for row in rows) else []
    parts += [SEQUENCE] if any(row.sequence is not None for row in rows) else []
    parts += [VOTE] if any(row.vote for row in rows) else []
    parts += [FLOOR] if any(row.below_floor for row in rows) else []
    parts += [CORRECTED] if any(row.corrected for row in rows) else []
    return " ".join(parts)
