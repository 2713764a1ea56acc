"""Injects faults into small runs: ``python -m tests.chaos [--quick] [--kills 100] [--seed 0]``.

Every try compares the finished run bit for bit with an undisturbed one: metrics, evaluations, rollouts, weights. Prints
a table of the faults and ends with exit code 1 if anything was lost. Each run is a forked process, so that libraries
are imported once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from src.config import compose
from src.run import build_run
from tests.chaos import faults, judges, memory, servers
from tests.chaos.table import Table
from tests.chaos.victims import PHASES, begin, durations, recipe, results, start

QUICK_PHASES = ("backward", "checkpoint")
QUICK_FILES = ("checkpoints/step_2/trainer_state.safetensors", "metrics.jsonl")


AGGREGATION = ("experiment=spiral", "algorithm.max_resamples=0")
"""Another recipe: drafts and their aggregation are trained together."""


def undisturbed(folder: Path, overrides: tuple[str, ...] = ()) -> faults.Place:
    """Run without a fault, measure the phases, and return the place for the tries."""
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)  # forks of a process with threads may hang
    build_run(compose("train", recipe(*overrides)), folder)  # imports what a run needs
    whole, log, seconds = folder / "whole", folder / "log", folder / "seconds.json"
    ended = start(begin(whole, *overrides), log, durations(seconds))
    if ended.code:
        raise RuntimeError(f"the undisturbed run failed: {ended.output}")
    (folder / "tries").mkdir()
    return faults.Place(folder / "tries", results(whole), json.loads(seconds.read_text()), random.Random(), overrides)


def chaos(folder: Path, kills: int, seed: int, quick: bool) -> Table:
    """Try all faults; with ``quick``, a few of each kind."""
    place, table = undisturbed(folder), Table()
    place.rng = random.Random(seed)
    phases = list(QUICK_PHASES if quick else PHASES)

    def attempt(fault: str, tries: int, action: object) -> None:
        for _ in range(tries):
            table.record(fault, action, place.log)  # type: ignore[arg-type]
        if not tries:
            return
        print(f"{fault}: {tries} tries, {len(table.rows[fault].losses)} lost", flush=True)

    for number, phase in enumerate(phases):
        share = kills // len(phases) + (number < kills % len(phases))
        attempt(f"SIGKILL during {phase}", share, partial(faults.killed, place, phase))
    few = 1 if quick else 5
    attempt("SIGINT twice", few, partial(faults.signalled, place, [signal.SIGINT] * 2))
    attempt("a second process", 1 if quick else 3, partial(faults.second_process, place))
    attempt("limit on the size of files", few, partial(faults.limited_files, place))
    made = faults.victim(place)
    files = [str(file.relative_to(made)) for file in sorted(made.rglob("*")) if file.is_file()]
    for how, damage in list(faults.DAMAGES.items())[: 1 if quick else None]:
        for name in QUICK_FILES if quick else files:
            table.record(f"a file {how}", partial(faults.damaged, place, made, name, damage), place.log)
        print(f"a file {how}: {len(table.rows[f'a file {how}'].losses)} lost", flush=True)
    attempt("run directory copied", 1, partial(faults.moved, place, made, True))
    if quick:
        return table
    attempt("run directory moved", 1, partial(faults.moved, place, made, False))
    attempt("SIGKILL three times", few, partial(faults.killed_repeatedly, place))
    attempt("SIGTERM", few, partial(faults.signalled, place, [signal.SIGTERM]))
    attempt("SIGINT", few, partial(faults.signalled, place, [signal.SIGINT]))
    attempt("SIGUSR1", few, partial(faults.signalled, place, [signal.SIGUSR1]))
    attempt("SIGSTOP and SIGCONT", few, partial(faults.paused, place))
    attempt("another number of threads", 1, partial(faults.more_threads, place, made))
    attempt("judge's process killed", 2, partial(judges.judge_killed, place, 2))
    attempt("memory exhausted in the judge", 2, partial(judges.judge_out_of_memory, place))
    attempt("clock jumps", 3, partial(faults.clock_jumps, place))
    attempt("memory exhausted in training", 1, partial(memory.out_of_memory, place, "backward", MemoryError))
    device = partial(torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB")
    attempt("memory exhausted in training", 2, partial(memory.out_of_memory, place, "optimizer", device))
    attempt("memory exhausted in the engine", 2, partial(memory.out_of_memory, place, "rollout", device))
    other = undisturbed(folder / "aggregation", AGGREGATION)
    other.rng = place.rng
    for phase in ("rollout", "backward", "checkpoint"):
        attempt(f"aggregation: SIGKILL during {phase}", 3, partial(faults.killed, other, phase))
    with servers.Server(folder / "servers") as server:
        served = undisturbed(folder / "served", server.overrides)
        served.rng = place.rng
        attempt("vLLM server killed", few, partial(servers.server_killed, served, server))
    if mountable():
        attempt("full disk", few, partial(faults.full_disk, place))
        attempt("read-only directory", 2, partial(faults.read_only, place))
    else:
        print("full disk, read-only directory: not tried, since file systems cannot be mounted here")
    return table


def mountable() -> bool:
    """Whether this process may mount file systems."""
    with tempfile.TemporaryDirectory() as disk:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True)
        return done.returncode == 0 and subprocess.run(["umount", disk]).returncode == 0


def main() -> int:
    """Try, print the table, name the losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few faults, in less than a minute")
    parser.add_argument("--kills", type=int, help="number of SIGKILLs, over all phases")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kills = given.kills if given.kills is not None else 2 if given.quick else 100
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        table = chaos(Path(folder), kills, given.seed, given.quick)
    print(f"\n{table.text()}\n\nseed {given.seed}, {time.monotonic() - begun:.0f} s, {os.cpu_count()} cores")
    for loss in table.losses:
        print(f"LOST: {loss}")
    return 1 if table.losses else 0


if __name__ == "__main__":
    sys.exit(main())
