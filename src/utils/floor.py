"""The measurement floor (``evaluation.floor``): smaller differences may come from the batch layout or the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

BELOW = "~"
"""The mark of a difference below the measurement floor."""

FLOOR = (
    f"{BELOW}: below the measurement floor; the same weights under another layout of batches, or with another engine, "
    "may differ by as much."
)


def floor_of(summaries: Iterable[Mapping[str, Any]]) -> float | None:
    """The measurement floor of a comparison: the largest upper end of the share of flipped verdicts, of all evaluations
    that measured it; ``None`` if none did."""
    return max((one["floor"]["high"] for one in summaries if "floor" in one), default=None)


def is_below(difference: float, floor: float | None) -> bool:
    """Whether a difference of accuracies is below the measurement floor; never without one."""
    return floor is not None and abs(difference) < floor


def change_is_below(change: Mapping[str, Any] | None, *summaries: Mapping[str, Any] | None) -> bool:
    """Whether a recorded change between evaluations is below their measurement floor; never without a change."""
    return change is not None and is_below(change["estimate"], floor_of(filter(None, summaries)))


def marked(text: str, below: bool) -> str:
    """The cell of a difference, with a mark if it is below the measurement floor."""
    return f"{text} {BELOW}" if below and text != "-" else text
