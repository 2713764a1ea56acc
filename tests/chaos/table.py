"""The table of faults: how often each was tried, survived, refused with a sentence, and lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from src.utils.tables import markdown

SURVIVED, REFUSED = "survived", "refused"


@dataclass
class Row:
    """The tries of one fault. ``losses`` says what was lost."""

    fault: str
    outcomes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


@dataclass
class Table:
    """The outcomes of all faults, in the order in which they were tried first."""

    rows: dict[str, Row] = field(default_factory=dict)

    def record(self, fault: str, attempt: Callable[[], str], log: Path) -> None:
        """Make a try. ``attempt`` returns ``SURVIVED``, ``REFUSED``, or else words for the loss."""
        row = self.rows.setdefault(fault, Row(fault))
        try:
            outcome = attempt()
        except (OSError, ValueError, KeyError, AssertionError) as error:  # the results of the run cannot be read
            outcome = f"{type(error).__name__}: {error}"
        row.outcomes.append(outcome)
        if outcome not in (SURVIVED, REFUSED):
            last = log.read_text(errors="replace").splitlines()[-1:] if log.exists() else []
            row.losses.append(f"{fault}, try {len(row.outcomes)}: {outcome} {' '.join(last)}")

    @property
    def losses(self) -> list[str]:
        """What was lost, over all faults."""
        return [loss for row in self.rows.values() for loss in row.losses]

    def text(self) -> str:
        """The table in Markdown."""
        lines = [
            [
                row.fault,
                str(len(row.outcomes)),
                str(row.outcomes.count(SURVIVED)),
                str(row.outcomes.count(REFUSED)),
                str(len(row.losses)),
            ]
            for row in self.rows.values()
        ]
        return markdown(["fault", "tries", "survived", "refused", "lost"], lines)
