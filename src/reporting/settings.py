"""Settings of ``src.report`` and ``src.export``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from src.settings import Section


class ReportCommand(Section):
    """Settings of ``python -m src.report``."""

    runs: str | Sequence[str]
    out: str = "report"
    steps: int = Field(8, ge=1)
    trees: int = Field(2, ge=1)
    problems: int = Field(8, ge=0)
    seeds: int = Field(1, ge=1)


class PlanCommand(Section):
    """Settings of ``python -m src.plan``."""

    runs: str | Sequence[str]
    effect: float = Field(2.0, gt=0, le=100)
    power: float = Field(0.8, gt=0.05, lt=1)
    seeds: Sequence[int] = (2, 3, 5, 8, 12, 20)
    samples: Sequence[int] = (1, 2, 4, 8, 16)
    problems: int | None = Field(None, ge=2)

    def check(self) -> Iterator[str]:
        """Yield an error for an empty list, and for numbers that no comparison can have."""
        for name, least in (("seeds", 2), ("samples", 1)):
            values = list(getattr(self, name))
            if min(values, default=0) < least:
                yield f"{name}={values} must be a list of one or more whole numbers, {least} or more each"


class ExportCommand(Section):
    """Settings of ``python -m src.export``."""

    run: str
    out: str
    what: Literal["merged", "adapter"] = "merged"
    checkpoint: str | int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
