"""Looks that tell groups apart, also in grey: a colour, a dash pattern, a marker and a letter."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import Any, Self

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colour-blind-safe palette (https://jfly.uni-koeln.de/color)."""

DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.2, 1.6), (7.0, 2.0, 1.5, 2.0))
"""Lengths of strokes and gaps, in line widths; empty for a solid line."""

MARKERS = ("o", "s", "^", "D", "v")
"""Circle, square, triangle, diamond and inverted triangle, as matplotlib names them."""


GREY = "#a6a6a6"
"""Colour of changes below the measurement floor."""

GREYED = "change below the measurement floor"
"""What grey means, in legends."""


@dataclass(frozen=True)
class Look:
    """The look of a group."""

    letter: str
    colour: str
    dash: tuple[float, ...]
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """The look of a line, as matplotlib's arguments."""
        return {"color": self.colour, "linestyle": (0, self.dash) if self.dash else "-", "marker": self.marker}

    def greyed(self, below: bool) -> Self:
        """The look of a change: grey if it is below the measurement floor."""
        return replace(self, colour=GREY) if below else self


def look(index: int) -> Look:
    """The look of the group with this index; the first 140 differ."""
    letters = string.ascii_uppercase
    letter = letters[index % len(letters)] + (str(index // len(letters)) if index >= len(letters) else "")
    return Look(letter, PALETTE[index % len(PALETTE)], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)])
