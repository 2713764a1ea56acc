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

    The weights exist ``replicas`` times, each time divided over ``shards`` processes; the product is the number of
    processes. ``replicas=null`` takes all processes that the launcher started.
    """

    replicas: int | None = Field(None, ge=1)
    shards: int = Field(1, ge=1)

    def check_run(self, run: RunSettings) -> Iterable[str]:
        started = launched()
        wanted = self.shards * (self.replicas or 1)
        if self.replicas is not None and wanted != started:
            times = f" x parallel.shards={self.shards}" if self.shards > 1 else ""
            yield (
                f"parallel.replicas={self.replicas}{times}, but this run was started with {_counted(started)}; "
                f"use torchrun --nproc-per-node {wanted} -m src.train …, or parallel.replicas=null"
            )
        elif started % self.shards:
            yield (
                f"parallel.shards={self.shards} does not divide the number of processes, and this run was started "
                f"with {_counted(started)}; use torchrun --nproc-per-node {self.shards} -m src.train …, or "
                "parallel.shards=1"
            )
        if self.shards > 1:
            yield from self._check_sharded(run)

    def _check_sharded(self, run: RunSettings) -> Iterable[str]:
        """Yield the settings that do not work with sharded weights."""
        begin = f"parallel.shards={self.shards} does not work with"
        if run.optimizer is not None and run.optimizer.moment_bytes is not None:
            yield f"{begin} an 8-bit optimizer, which cannot step on parts of tensors; use optimizer=adamw"
        model, algorithm, rounds = run.model, run.algorithm, run.rounds
        if model is None:
            return
        if model.quantization:
            yield (
                f"{begin} model.quantization={model.quantization}, whose packed weights cannot be divided; use "
                "model.quantization=null or parallel.shards=1"
            )
        if model.lora is None or model.adapter:
            kept = "model.lora=null" if model.lora is None else f"model.adapter={model.adapter}"
            users = {
                "algorithm.kl_beta above 0": algorithm is not None and algorithm.kl_beta > 0,
                "rounds.continuation=base": rounds is not None and rounds.continuation == "base",
            }
            for user in (name for name, used in users.items() if used):
                yield (
                    f"{begin} {user} and {kept} together: a second set of whole weights would be kept for the base; "
                    "use a fresh LoRA adapter or parallel.shards=1"
                )


def _counted(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"
