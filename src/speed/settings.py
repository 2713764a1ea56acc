"""What is measured, and how large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Section = Literal["rollouts", "pattern", "training", "step", "scaling", "memory", "roofline"]
Case = Literal["group", "mixed", "skewed", "large"]


@dataclass(frozen=True)
class Measuring:
    """The settings of all sections; each field is explained in conf/benchmark.yaml."""

    sections: Sequence[Section]
    cases: Sequence[Case]
    repeats: int = 5
    warmup: int = 1
    prompt_tokens: int = 84
    new_tokens: int = 128
    problems: int = 1
    micro_batch_tokens: int = 4096
    limit: int | None = None
    adapter: bool = False
    openvino: str | None = None

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        names = ("repeats", "prompt_tokens", "new_tokens", "problems", "micro_batch_tokens")
        errors = [
            f"measuring.{name}={getattr(self, name)} must be 1 or more" for name in names if getattr(self, name) < 1
        ]
        if self.warmup < 0:
            errors.append(f"measuring.warmup={self.warmup} must be 0 (no run before those that count) or more")
        if self.limit is not None and self.limit < 2:
            errors.append(f"measuring.limit={self.limit} must be 2 or more, or null")
        if self.openvino is not None and not (Path(self.openvino) / "openvino_model.xml").is_file():
            errors.append(
                f"measuring.openvino={self.openvino}: there is no openvino_model.xml; valid: null, or a folder that "
                f"`optimum-cli export openvino --model … --task text-generation-with-past` wrote"
            )
        if not self.sections:
            errors.append("measure=[] measures nothing; name one section at least, e.g. measure=[rollouts]")
        if "rollouts" in self.sections and not self.cases:
            errors.append("measuring.cases=[] leaves measure=[rollouts] nothing to do; name one, e.g. [group]")
        return errors

    def at_most(self, size: int) -> int:
        """A number of rows, tokens or problems, or ``limit`` where that is less."""
        return size if self.limit is None else min(size, self.limit)
