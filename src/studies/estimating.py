"""How long the missing jobs of a study take: measured on this machine, or computed for a GPU by the roofline model."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src import config as configuration
from src.estimating.devices import device_named
from src.estimating.published import shape_for
from src.estimating.running import Assumed, evaluation_seconds, training_seconds
from src.evaluation.settings import Evaluation
from src.reporting.runs import read_run, step_seconds
from src.studies.jobs import Job
from src.studies.running import environment
from src.studies.settings import Study
from src.types import InputError
from src.utils import tables

PROBE = (
    *("train.steps=2", "evaluation.every=0", "evaluation.at_start=false", "evaluation.keep_best=false"),
    *("evaluation.before=false", "evaluation.limit=8", "evaluation.samples=1", "checkpoint.every=2", "tracking=none"),
)
"""Overrides of a run of two steps, from which the time of a whole one is computed."""

TRIAL_SECONDS = 3600
"""Time after which a trial is given up."""

PROBLEMS = 500
"""Problems of a test split whose size the configuration does not say."""


def estimated(study: Study, jobs: Sequence[Job], root: Path, device: str | None) -> str:
    """A table of the missing jobs with their hours. Evaluations count as the tokens that they sample.

    Raises:
        InputError: the device is unknown, or a run cannot be tried.
    """
    rows, total = [], 0.0
    for name in study.runs:
        own = [job for job in jobs if job.kind == "train" and job.run == name]
        missing = [job for job in own if not job.complete]
        finished = [read_run(job.directory).summary["wall_clock_seconds"] for job in own if job.complete]
        if not missing:
            rows.append([name, f"0 of {len(own)}", "-", "done"])
            continue
        if device is not None:
            seconds, how = computed(missing[0], device), f"computed for {device_named(device).name}"
        elif finished:
            seconds, how = statistics.fmean(finished), f"mean of {len(finished)} finished runs"
        else:
            begun = startable(missing[0], jobs)
            seconds, how = probed(begun, root), "from two steps of a trial here"
            how += ", without its warm-up" if begun is not missing[0] else ""
        total += seconds * len(missing)
        rows.append([name, f"{len(missing)} of {len(own)}", f"{seconds / 3600:.2f}", how])
    further = sum(job.kind != "train" and not job.complete for job in jobs)
    lines = [tables.markdown(["run", "missing", "hours each", "how"], rows), ""]
    planned = f" (planned: {study.hours:g})" if study.hours is not None else ""
    lines.append(f"{total / 3600:.1f} hours in all, one run after the other{planned}.")
    if further:
        lines.append(f"{further} warm-ups and further evaluations are not counted.")
    if device is not None:
        lines.append(str(Assumed()))
    return "\n".join(lines)


def startable(job: Job, jobs: Sequence[Job]) -> Job:
    """The job if its warm-up is done; otherwise the job without the warm-up's adapter, and with another directory."""
    pending = {str(one.directory) for one in jobs if one.kind == "warmup" and not one.complete}
    overrides = tuple(one for one in job.overrides if one.partition("=")[2] not in pending)
    if overrides == job.overrides:
        return job
    own = job.directory.with_name(f"{job.directory.name}-without-warmup")
    return replace(job, overrides=overrides, directory=own)


def probed(job: Job, root: Path) -> float:
    """Seconds of a run: its steps at the speed of the second step of a trial, and its evaluations at the speed at which
    that step sampled tokens.

    Raises:
        InputError: the trial failed, or took too long.
    """
    folder = root / "trials" / f"{job.directory.name}"
    overrides = [one for one in job.overrides if one.partition("=")[0] not in {p.partition("=")[0] for p in PROBE}]
    begun = time.monotonic()
    if not (folder / "summary.json").is_file():
        given = [*configuration.folder_flags(), *overrides, *PROBE, f"hydra.run.dir={folder}"]
        _tried(job, [sys.executable, "-m", "src.train", *given])
    started = max(5.0, min(30.0, time.monotonic() - begun))
    run = read_run(folder)
    step = run.metrics[-1]
    speed = step["tokens/generated"] / max(step["time/rollout"], 1e-9)
    per_answer = {
        (one["split"], one["rounds"]): one["tokens_per_answer"] for one in run.summary["evaluations"]["after"]
    }
    settings = configuration.compose("train", job.overrides).settings
    tokens = sum(per_answer.values()) * _problems(settings) * settings.evaluation.samples
    asked = tokens * _tested(settings.evaluation)
    asked += _looks(settings) * settings.benchmark.validation_size * max(per_answer.values())
    return float(started + settings.train.steps * step_seconds(step) + asked / speed)


def _tried(job: Job, command: Sequence[str]) -> None:
    """Run the trial of a job.

    Raises:
        InputError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), check=False, timeout=TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{job.label}: a trial of two steps took more than {TRIAL_SECONDS} seconds and was stopped. Estimate the "
            "study for a GPU (--estimate device=H200), or make its steps smaller (train.problems, rounds.responses)"
        ) from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise InputError(f"{job.label}: a trial of two steps failed: {''.join(last)}")


def computed(job: Job, device: str) -> float:
    """Seconds of a run on a GPU, by the roofline model."""
    settings = configuration.compose(
        "train", [one for one in job.overrides if not one.startswith("model.adapter=")]
    ).settings
    found, shape, asked = device_named(device), shape_for(settings.model), settings.evaluation

    def answers(chains: Any, problems: int) -> float:
        return evaluation_seconds(settings, shape, found, chains, problems)

    tests = sum(
        answers(asked.chains(settings.rounds, split, rounds), _problems(settings))
        for split in settings.benchmark.tests
        for rounds in dict.fromkeys(asked.rounds)
    )
    seconds = training_seconds(settings, shape, found) + tests * _tested(asked)
    if looks := _looks(settings):
        chains = settings.rounds.independent(settings.rounds.n, 1, asked.temperature, asked.top_p)
        seconds += looks * answers(chains, settings.benchmark.validation_size)
    return float(seconds)


def _tested(evaluation: Evaluation) -> int:
    """Number of evaluations on the test splits: after training, before it, and of the last weights beside the best."""
    return 1 + evaluation.before + evaluation.keep_best


def _looks(settings: Any) -> int:
    """Number of validations of a run; weights that are kept as the best are validated once more, if not greedily."""
    asked = settings.evaluation
    again = asked.keep_best and asked.temperature > 0
    return asked.at_start + -(-settings.train.steps // asked.every) + again if asked.every else 0


def _problems(settings: Any) -> int:
    """Number of problems that are answered on each test split."""
    known = [size for size in (settings.evaluation.limit, settings.benchmark.test_size) if size]
    return int(min(known, default=PROBLEMS))
