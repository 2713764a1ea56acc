"""Settings of ``src.report`` and ``src.export``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from src.settings import Section


class ReportCommand(Section):
    """Settings of ``python -m src.report``."""

    runs: str | Sequence[str]
    out: str = "report"
    steps: int = Field(8, ge=1)
    trees: int = Field(2, ge=1)


class ExportCommand(Section):
    """Settings of ``python -m src.export``."""

    run: str
    out: str
    what: Literal["merged", "adapter"] = "merged"
    checkpoint: str | int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
