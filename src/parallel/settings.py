"""Settings of training on several processes."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pydantic import Field

from src.settings import RunSettings, Section


def launched() -> int:
    """Number of processes that a launcher (torchrun, accelerate) started; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 1


class Parallel(Section):
    """Data parallelism: each process samples some of the problems and trains on some of the rows of a step.

    Every process holds the whole model. ``replicas`` is the number of processes; null takes the launcher's.
    """

    replicas: int | None = Field(None, ge=1)

    def check_run(self, run: RunSettings) -> Iterable[str]:
        started = launched()
        if self.replicas is not None and self.replicas != started:
            yield (
                f"parallel.replicas={self.replicas}, but this run was started with {started} "
                f"process{'es' if started > 1 else ''}; use torchrun --nproc-per-node {self.replicas} -m src.train …, "
                "or parallel.replicas=null"
            )
