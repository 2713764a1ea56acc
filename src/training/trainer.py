"""The loop: grow trees, score them, credit their turns, take a step. Exact to resume, from the top to the bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.algorithms.base import Algorithm
from src.benchmarks.base import Benchmark, Splits
from src.credit.base import CreditRule
from src.engines.base import Engine
from src.evaluation.sampling import (
    Evaluated,
    EvaluationConfig,
    compare,
    evaluate,
    read_evaluation,
    write_evaluation,
    write_trees,
)
from src.models.policy import Policy
from src.rewards.base import Reward
from src.rounds.growing import grow
from src.rounds.multi_round import MultiRound
from src.tracking.trackers import MetricsFile, Tracker
from src.training import checkpoint
from src.training.checkpoint import CheckpointConfig
from src.training.collecting import Collected, collect, order, spares
from src.training.learner import Learner
from src.training.step_metrics import describe
from src.types import InputError, Problem, Rollout, Scorer
from src.utils.files import write_json
from src.utils.profiling import phase, profiled
from src.utils.signals import StopRequest


@dataclass(frozen=True)
class TrainConfig:
    """The loop; each field is explained in conf/train.yaml."""

    steps: int
    problems: int
    micro_batch_tokens: int
    max_grad_norm: float
    sampler_tolerance: float
    rollouts_every: int
    threads: int
    profile: int = 0

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        names = ("steps", "problems", "micro_batch_tokens", "rollouts_every")
        errors = [f"train.{name}={getattr(self, name)} must be 1 or more" for name in names if getattr(self, name) < 1]
        if self.max_grad_norm <= 0:
            errors.append(f"train.max_grad_norm={self.max_grad_norm} must be above 0")
        if self.sampler_tolerance < 0:
            errors.append(f"train.sampler_tolerance={self.sampler_tolerance} must be 0 (never) or more nats")
        if self.threads < 0:
            errors.append(f"train.threads={self.threads} must be 0 (torch decides) or more")
        if not 0 <= self.profile <= self.steps:
            errors.append(f"train.profile={self.profile} must be 0 (none), or a step up to train.steps={self.steps}")
        return errors


@dataclass(frozen=True)
class Study:
    """Everything that a run is assembled from."""

    run: Path
    seed: int
    policy: Policy
    engine: Engine
    strategy: MultiRound
    reward: Reward
    credit: CreditRule
    algorithm: Algorithm
    learner: Learner
    benchmark: Benchmark
    scorers: Mapping[str, Scorer]  # by the names of their verifiers; the first decides
    splits: Splits
    tracker: Tracker
    train: TrainConfig
    evaluation: EvaluationConfig
    checkpoints: CheckpointConfig


@dataclass
class State:
    """What a checkpoint holds besides weights, optimizer and random states."""

    step: int = 0
    problems: int = 0  # seen so far
    seconds: float = 0.0
    tracker_id: str | None = None
    best: dict[str, float] = field(default_factory=dict)  # step and validation accuracy of the best checkpoint
    pending: dict[str, Any] = field(default_factory=dict)  # metrics of a step whose validation was interrupted


class Trainer:
    """Runs a study from its first step, or from its newest checkpoint, to the last evaluation."""

    def __init__(
        self,
        study: Study,
        state: State,
        settings: Mapping[str, Any],
        stop: StopRequest,
        show: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.study, self.state, self.settings, self.stop, self.show = study, state, settings, stop, show
        self.metrics = MetricsFile(study.run / "metrics.jsonl", after=state.step - bool(state.pending))
        self.started = time.perf_counter() - state.seconds

    def train(self) -> dict[str, Any]:
        """All steps that are left. Returns the last step's metrics.

        Raises:
            Stopped: a signal came. The state is that after the last completed step.
        """
        study, state = self.study, self.state
        while state.step < study.train.steps or state.pending:
            if not state.pending:
                with profiled(study.run / "profile", state.step + 1 == study.train.profile):
                    state.pending = self.step(state.step)
                state.problems = state.pending["problems_seen"]
                state.step += 1
            metrics = {**state.pending, **self.validate()}
            state.pending = {}
            self.metrics.log(metrics)
            study.tracker.log(metrics)
            self.show(metrics)
            if state.step % study.checkpoints.every == 0 or state.step == study.train.steps:
                self.save()
        return self.metrics.last()

    def step(self, step: int) -> dict[str, Any]:
        """One optimizer step (0-based). Nothing changes before every row is there: a stop in between loses nothing."""
        study = self.study
        self.stop.check()
        begin = time.perf_counter()
        found = self.collect(step)
        collected = time.perf_counter()
        with phase("training"):
            update = study.learner.update(found.credited.rows)
        end = time.perf_counter()
        if step == 0 or (step + 1) % study.train.rollouts_every == 0:
            file = study.run / "rollouts" / f"step_{step + 1:06d}.jsonl"
            write_trees(file, found.rollouts, found.scores, found.credited, study.policy.codec)
            study.tracker.rollouts(step + 1, found.rollouts, found.scores)
        return {
            "step": step + 1,
            "problems_seen": self.state.problems + len(found.rollouts),
            **describe(found.rollouts, found.scores, found.credited),
            **({"dropped_problems": found.dropped} if study.algorithm.max_resamples else {}),
            **update,
            "time/rollout": found.growing,
            "time/reward": collected - begin - found.growing,
            "time/train": end - collected,
            "tokens_per_second": sum(rollout.tokens for rollout in found.rollouts) / (end - begin),
        }

    def collect(self, step: int) -> Collected:
        """The scored and credited trees of a step; with ``algorithm.max_resamples``, of further problems too."""
        study, problems = self.study, self.study.splits.train
        chosen = order(len(problems), study.seed, step, study.train.problems)
        waves = study.algorithm.max_resamples
        further = spares(len(problems), study.seed, step, chosen) if waves else []
        return collect(
            [problems[index] for index in chosen],
            [problems[index] for index in further],
            waves,
            grow=lambda batch: self.grow(batch, step),
            score=lambda trees: study.reward.score(trees, next(iter(study.scorers.values()))),
            credit=lambda trees, scores: study.credit.rows(trees, scores, study.algorithm.advantages),
        )

    def grow(self, problems: Sequence[Problem], step: int) -> list[Rollout]:
        """The training trees of a step; one level deep where the reward does not look further."""
        study = self.study
        depth = None if study.reward.looks_ahead else 1
        key = (study.seed, "train", step)
        with phase("rollout"):
            return grow(
                study.engine, study.strategy, problems, study.policy.codec, key, depth, interrupt=self.stop.check
            )

    def validate(self) -> dict[str, float]:
        """Accuracy on the validation split, every so many steps; remembers the best."""
        study, step = self.study, self.state.step
        if not study.evaluation.every or (step % study.evaluation.every and step != study.train.steps):
            return {}
        settings = study.evaluation
        chains = study.strategy.independent(study.strategy.n, 1, settings.temperature, settings.top_p)
        result, _ = self.evaluate(study.splits.validation, chains, ("validation",))
        accuracy = result.interval
        if study.evaluation.keep_best and accuracy.estimate > self.state.best.get("accuracy", -1.0):
            self.state.best = {"step": step, "accuracy": accuracy.estimate}
            checkpoint.save_best(study.run, study.policy)
        return {
            "validation/accuracy": accuracy.estimate,
            "validation/low": accuracy.low,
            "validation/high": accuracy.high,
            "validation/tokens_per_answer": result.summary["tokens_per_answer"],
        }

    def test_base(self, show: Callable[[str, int], Callable[[int], None]]) -> dict[str, Evaluated]:
        """The test splits before the first step, when a fresh adapter adds nothing.

        Raises:
            InputError: the run is past that and its evaluation of the base is gone.
        """
        folder = self.study.run / "evaluation" / "step_0"
        if self.state.step and not folder.exists():
            raise InputError(f"{folder} is missing, and the weights are past step 0. Put it back, or start a new run.")
        return self.test(0, show)

    def test(self, step: int, show: Callable[[str, int], Callable[[int], None]]) -> dict[str, Evaluated]:
        """Every test split at every number of rounds; what is already on disk is read, not sampled again."""
        study, results = self.study, {}
        folder = study.run / "evaluation" / f"step_{step}"
        for split, problems in study.splits.tests.items():
            chosen = problems[: study.evaluation.limit]
            about = {"step": step, "seed": study.seed, "base_sha256": study.policy.base_hash}
            about["data"] = study.benchmark.origin(split)
            for rounds in dict.fromkeys(study.evaluation.rounds):
                name = f"{study.benchmark.name}-{split}_rounds{rounds}"
                if not (folder / f"{name}.json").exists():
                    progress = show(name, len(chosen))
                    chains = study.evaluation.chains(study.strategy, split, rounds)
                    result, records = self.evaluate(chosen, chains, ("test", rounds), progress)
                    write_evaluation(folder, name, result, records, **about)
                results[f"{split}, {rounds} round{'s' if rounds > 1 else ''}"] = read_evaluation(folder, name)
        return results

    def evaluate(
        self,
        problems: Sequence[Problem],
        chains: MultiRound,
        key: tuple[object, ...],
        show: Callable[[int], None] = lambda count: None,
    ) -> tuple[Evaluated, list[dict[str, Any]]]:
        """The present policy on ``problems``. Base and trained policy draw from the same random streams."""
        study = self.study

        def progress(count: int) -> None:
            self.stop.check()
            show(count)

        return evaluate(
            study.engine, chains, problems, study.policy.codec, study.scorers, (study.seed, *key), progress=progress
        )

    def restore_best(self) -> int:
        """With ``evaluation.keep_best``, put back the best weights; returns the step of the weights now in place."""
        if not self.state.best:
            return self.state.step
        self.study.policy.load(self.study.run / "checkpoints" / "best")
        return int(self.state.best["step"])

    def save(self) -> None:
        """A checkpoint of the last completed step."""
        study, state = self.study, self.state
        state.seconds = time.perf_counter() - self.started
        learner = study.learner
        content = {
            "settings": dict(self.settings),
            "state": vars(state) | {"best": dict(state.best), "pending": dict(state.pending)},
            "optimizer": learner.optimizer.state_dict(),
            "schedule": learner.schedule.state_dict(),
        }
        checkpoint.save(study.run, state.step, study.policy, content, study.checkpoints.keep)

    def summarize(
        self, last: Mapping[str, Any], before: Mapping[str, Evaluated], after: Mapping[str, Evaluated], **about: Any
    ) -> dict[str, Any]:
        """Write ``summary.json``, the run's last word, and close everything."""
        study = self.study
        summary = {
            "complete": True,
            "seed": study.seed,
            "base_sha256": study.policy.base_hash,
            "data": study.benchmark.origin("train"),
            "final": dict(last),
            "best": self.state.best,
            "evaluations": compare(before, after),
            "wall_clock_seconds": time.perf_counter() - self.started,
            **about,
        }
        write_json(study.run / "summary.json", summary)
        study.tracker.finish(summary)
        self.metrics.close()
        return summary
