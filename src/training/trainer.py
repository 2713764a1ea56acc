"""The training loop, top to bottom: grow rollouts, score them, credit their turns, take a step."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch.profiler import record_function

from src.config.commands import TrainCommand
from src.evaluation.loop import evaluate
from src.rounds.growing import grow
from src.run import Run
from src.tracking.base import Tracker
from src.training import checkpoint
from src.training.dynamic_sampling import Batch, collect
from src.training.learner import Learner
from src.training.metrics_file import MetricsFile
from src.training.rollout_files import write_rollouts
from src.training.step_metrics import describe
from src.types import Problem, Rollout, Scores
from src.utils.checkpoints import BEST
from src.utils.profiling import PREFIX, profiled
from src.utils.signals import StopRequest


@dataclass
class State:
    """The position of a run: what a checkpoint holds besides weights, optimizer and random states."""

    step: int = 0
    problems: int = 0  # seen so far
    seconds: float = 0.0
    tracker_id: str | None = None
    best: dict[str, float] = field(default_factory=dict)  # step and validation accuracy of the best checkpoint
    pending: dict[str, Any] = field(default_factory=dict)  # metrics of a step whose validation was interrupted


class Trainer:
    """Trains a run from its first step, or from its newest checkpoint."""

    def __init__(
        self,
        run: Run,
        learner: Learner,
        state: State,
        metrics: MetricsFile,
        tracker: Tracker,
        stop: StopRequest,
        show: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.run, self.learner, self.state = run, learner, state
        self.metrics, self.tracker, self.stop, self.show = metrics, tracker, stop, show
        self.settings: TrainCommand = run.settings
        self.started = time.perf_counter() - state.seconds

    def train(self) -> dict[str, Any]:
        """All steps that are left. Returns the last step's metrics.

        Raises:
            Stopped: a signal came. The state is that after the last completed step.
        """
        settings, state = self.settings, self.state
        while state.step < settings.train.steps or state.pending:
            if not state.pending:
                with profiled(self.run.directory / "profile", state.step + 1 == settings.train.profile):
                    state.pending = self.step(state.step)
                state.problems = state.pending["problems_seen"]
                state.step += 1
                self.run.step = state.step
            metrics = {**state.pending, **self.validate()}
            state.pending = {}
            self.metrics.log(metrics)
            self.tracker.log(metrics)
            self.show(metrics)
            if state.step % settings.checkpoint.every == 0 or state.step == settings.train.steps:
                self.save()
        return self.metrics.last()

    def step(self, step: int) -> dict[str, Any]:
        """One optimizer step (0-based). Nothing changes before all rows are there, so an interruption loses nothing."""
        self.interrupt()
        begin = time.perf_counter()
        batch = self.sample(step)
        sampled = time.perf_counter()
        with record_function(PREFIX + "training"):
            update = self.learner.update(batch.credited.rows)
        end = time.perf_counter()
        if step == 0 or (step + 1) % self.settings.train.rollouts_every == 0:
            file = self.run.directory / "rollouts" / f"step_{step + 1:06d}.jsonl"
            write_rollouts(file, batch.rollouts, batch.scores, batch.credited, self.run.codec)
            self.tracker.rollouts(step + 1, batch.rollouts, batch.scores)
        return {
            "step": step + 1,
            "problems_seen": self.state.problems + len(batch.rollouts),
            **describe(batch.rollouts, batch.scores, batch.credited),
            **({"dropped_problems": batch.dropped} if self.settings.algorithm.max_resamples else {}),
            **update,
            "time/rollout": batch.growing,
            "time/reward": sampled - begin - batch.growing,
            "time/train": end - sampled,
            "tokens_per_second": sum(rollout.tokens for rollout in batch.rollouts) / (end - begin),
        }

    def sample(self, step: int) -> Batch:
        """The scored and credited rollouts of a step."""
        settings, problems = self.settings, self.run.splits.train
        chosen = order(len(problems), settings.seed, step, settings.train.problems)
        picked = [problems[index] for index in chosen]
        if settings.algorithm.max_resamples:
            further = [problems[index] for index in spares(len(problems), settings.seed, step, chosen)]
            grow_more = self.growing(step)
            return collect(picked, further, settings.algorithm.max_resamples, grow_more, self.score, self.credit)
        begin = time.perf_counter()
        rollouts = self.growing(step)(picked)
        growing = time.perf_counter() - begin
        scores = self.score(rollouts)
        return Batch(rollouts, scores, self.credit(rollouts, scores), 0, growing)

    def growing(self, step: int) -> Callable[[Sequence[Problem]], list[Rollout]]:
        """Grows the rollouts of a step; one round deep if no reward term looks further."""
        settings, run = self.settings, self.run
        depth = None if settings.reward.looks_ahead else 1
        key = (settings.seed, "train", step)

        def rollouts(problems: Sequence[Problem]) -> list[Rollout]:
            with record_function(PREFIX + "rollout"):
                return grow(run.engine, settings.rounds, problems, run.codec, key, depth, interrupt=self.interrupt)

        return rollouts

    def score(self, rollouts: Sequence[Rollout]) -> list[Scores]:
        """Scores of rollouts, by the deciding verifier."""
        return self.settings.reward.score(rollouts, next(iter(self.run.scorers.values())))

    def credit(self, rollouts: Sequence[Rollout], scores: Sequence[Scores]) -> Any:
        """The rows that the loss sees."""
        return self.settings.credit.rows(rollouts, scores, self.settings.algorithm.advantages)

    def interrupt(self) -> None:
        """Raise ``Stopped`` if a signal has come."""
        if self.stop.requested is not None:
            raise self.stop.requested

    def validate(self) -> dict[str, float]:
        """Accuracy on the validation split, every so many steps; keeps the best weights if asked to."""
        run, settings, step = self.run, self.settings.evaluation, self.state.step
        if not settings.every or (step % settings.every and step != self.settings.train.steps):
            return {}
        rounds = self.settings.rounds
        chains = rounds.independent(rounds.n, 1, settings.temperature, settings.top_p)
        key = (self.settings.seed, "validation")
        result, _ = evaluate(
            run.engine, chains, run.splits.validation, run.codec, run.scorers, key, progress=lambda _: self.interrupt()
        )
        accuracy = result.interval
        if settings.keep_best and accuracy.estimate > self.state.best.get("accuracy", -1.0):
            self.state.best = {"step": step, "accuracy": accuracy.estimate}
            checkpoint.save_best(run.directory, step, accuracy.estimate, run.policy)
        return {
            "validation/accuracy": accuracy.estimate,
            "validation/low": accuracy.low,
            "validation/high": accuracy.high,
            "validation/tokens_per_answer": result.summary["tokens_per_answer"],
        }

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far, all its sessions together."""
        return time.perf_counter() - self.started

    def restore_best(self) -> None:
        """Put the best weights in place, if the run keeps them."""
        if self.state.best:
            self.run.load(self.run.directory / "checkpoints" / BEST)

    def save(self) -> None:
        """Write a checkpoint of the last completed step."""
        state = self.state
        state.seconds = self.seconds
        content = {
            "settings": self.run.config.values,
            "state": vars(state) | {"best": dict(state.best), "pending": dict(state.pending)},
            "optimizer": self.learner.optimizer.state_dict(),
            "schedule": self.learner.schedule.state_dict(),
        }
        checkpoint.save(self.run.directory, state.step, self.run.policy, content, self.settings.checkpoint.keep)


def order(count: int, seed: int, step: int, size: int) -> list[int]:
    """Indices of the problems of a step (0-based): every epoch a new permutation that the seed fixes.

    No step spans two epochs (what is left of one is dropped), so no problem is in a step twice.
    """
    epoch, batch = divmod(step, count // size)
    return _permutation(count, f"{seed}/{epoch}")[batch * size : (batch + 1) * size]


def spares(count: int, seed: int, step: int, taken: Sequence[int]) -> list[int]:
    """The other problems, in an order of the step's own, so that their number in use changes no later step."""
    used = set(taken)
    return [index for index in _permutation(count, f"{seed}/spares/{step}") if index not in used]


@lru_cache(maxsize=2)
def _permutation(count: int, key: str) -> list[int]:
    indices = list(range(count))
    random.Random(key).shuffle(indices)
    return indices
