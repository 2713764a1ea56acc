"""Settings of ``python -m src.speed``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from src.engines.local.settings import Local
from src.settings import RunSettings, Section
from src.training.settings import LearningSections

Measurement = Literal["rollouts", "pattern", "training", "step", "scaling", "processes", "memory", "roofline"]
Case = Literal["group", "mixed", "skewed", "large"]


class Measuring(Section):
    """Settings of the measurements. conf/speed.yaml explains each field."""

    sections: Sequence[Measurement]
    cases: Sequence[Case]
    processes: int = Field(2, ge=2)
    repeats: int = Field(5, ge=1)
    warmup: int = Field(1, ge=0)
    prompt_tokens: int = Field(84, ge=1)
    new_tokens: int = Field(128, ge=1)
    problems: int = Field(1, ge=1)
    micro_batch_tokens: int = Field(4096, ge=1)
    limit: int | None = Field(None, ge=2)
    adapter: bool = False
    openvino: str | None = None

    def check(self) -> Iterable[str]:
        if not self.sections:
            yield "measure=[] measures nothing; use at least one section, e.g. measure=[rollouts]"
        if "rollouts" in self.sections and not self.cases:
            yield "measuring.cases=[] leaves no case for measure=[rollouts]; use at least one, e.g. [group]"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if self.openvino is not None and not (Path(self.openvino) / "openvino_model.xml").is_file():
            yield (
                f"measuring.openvino={self.openvino}: there is no openvino_model.xml; valid: null, or a folder written "
                "by `optimum-cli export openvino --model … --task text-generation-with-past`"
            )
        if run.engine is not None and not isinstance(run.engine, Local):
            yield (
                "engine: src.speed measures engine=local, with and without compiled code, and compares it with vLLM if "
                "that is installed; use engine=local"
            )

    def at_most(self, size: int) -> int:
        """``size`` (rows, tokens or problems), but at most ``limit``."""
        return size if self.limit is None else min(size, self.limit)


class SpeedCommand(LearningSections):
    """Settings of ``python -m src.speed``."""

    measure: Sequence[str]
    threads: int = Field(0, ge=0)
    measuring: Measuring
