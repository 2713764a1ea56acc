"""Peak memory against vocabulary size and row length, each point in its own process: settings bound the memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch

from src.config import ROOT
from src.speed.base import Measured, Table, Workbench
from src.speed.peak import PROMPT, STATUS
from src.speed.timing import slope

VOCABULARIES = (16384, 32768, 49152)
LENGTHS = (1024, 2048, 4096)
TIMES = 2
"""Tokens of all rows, as a multiple of the budget, so that the budget is the limit."""


def measure(bench: Workbench) -> Measured:
    """Peak memory of the head over vocabulary x length, and of training and rollouts over the row length."""
    about = (
        "Peak memory in MiB of a separate process, minus its memory before the work. `head`: log-probs and their "
        "gradient, in pieces as in training, and with all logits at once. `training` and `rollouts`: the same number "
        "of tokens in rows of increasing length, under the same token budget."
    )
    if not STATUS.exists():
        return Measured(about, notes=[f"left out: this system has no {STATUS}"], numbers={"left_out": str(STATUS)})
    heads, head_numbers = over_vocabulary(bench)
    longest, longest_numbers = over_length(bench)
    return Measured(about, [heads, longest], NOTES, {"head": head_numbers, "longest": longest_numbers})


NOTES = [
    "slope: least squares, in MiB per 1,000 tokens (head) or per 1,000 tokens of row length (training, rollouts)",
    "under a token budget the peak should be constant; in training it still grows with attention, whose memory is "
    "proportional to budget x row length",
]


def over_vocabulary(bench: Workbench) -> tuple[Table, list[Any]]:
    """Peak memory of the head at each length, and its slope; one row per vocabulary and method."""
    few = None if bench.settings.limit is None else 1
    lengths = LENGTHS if few is None else LENGTHS[:2]
    rows, numbers = [], []
    for vocabulary in VOCABULARIES[:few]:
        for name, pieces in (("in pieces", True), ("all at once", False)):
            peaks = [
                peak(bench, work="head", vocabulary=vocabulary, tokens=length, pieces=pieces) for length in lengths
            ]
            rise = 1000 * slope(lengths, peaks)
            points = {"tokens": list(lengths), "mib": peaks, "mib_per_1000_tokens": rise}
            rows.append([f"{vocabulary}, {name}", *(f"{mib:.0f}" for mib in peaks), f"{rise:.1f}"])
            numbers.append({"vocabulary": vocabulary, "way": name, **points})
    headings = ("what", *(f"{length} tokens" for length in lengths), "slope")
    return Table("Vocabulary x length: log-probs and their gradient (MiB)", headings, rows), numbers


def over_length(bench: Workbench) -> tuple[Table, list[Any]]:
    """Peak memory of training and of rollouts at each row length, and its slope."""
    budget, lengths = budgeted(bench)
    rows, numbers = [], []
    for work in ("training", "rollouts"):
        settings = {name: bench.config.values[name] for name in ("model", "engine")}
        peaks = [
            peak(bench, work=work, longest=length, budget=budget, tokens=TIMES * budget, settings=settings)
            for length in lengths
        ]
        rise = 1000 * slope(lengths, peaks)
        rows.append([work, *(f"{mib:.0f}" for mib in peaks), f"{rise:.1f}"])
        numbers.append(
            {
                "work": work,
                "budget": budget,
                "tokens": TIMES * budget,
                "longest": lengths,
                "mib": peaks,
                "mib_per_1000_tokens": rise,
            }
        )
    title = f"Longest row under a budget of {budget} tokens, {TIMES * budget} tokens in all (MiB)"
    return Table(title, ("what", *(f"longest {length}" for length in lengths), "slope"), rows), numbers


def budgeted(bench: Workbench) -> tuple[int, list[int]]:
    """The token budget, and row lengths that divide it."""
    settings = bench.settings
    budget = settings.micro_batch_tokens if settings.limit is None else 16 * max(settings.limit, 2 * PROMPT)
    lengths = [budget // parts for parts in ((32, 16, 8, 4) if settings.limit is None else (16, 4))]
    usable = [length for length in lengths if 2 * PROMPT <= length <= bench.model.context]
    return budget, usable if len(usable) > 1 else [2 * PROMPT, 4 * PROMPT]


def peak(bench: Workbench, **task: Any) -> float:
    """Peak memory of one point in MiB, measured in a separate process.

    Raises:
        RuntimeError: the process failed. The message has the end of its stderr.
    """
    command: Sequence[str] = [sys.executable, "-m", "src.speed.peak"]
    asked = json.dumps({**task, "threads": torch.get_num_threads()})
    done = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{task['work']}: measuring its memory failed: {done.stderr.strip()[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["mib"])
