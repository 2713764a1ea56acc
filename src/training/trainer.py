"""Training loop: generate rollouts, score them, credit their turns, update the policy, validate, checkpoint."""

from __future__ import annotations

import gc
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from torch.profiler import record_function

from src.evaluation.loop import evaluate
from src.evaluation.multiple_testing import band
from src.evaluation.results import Evaluated
from src.models.sharding import whole_state
from src.rounds.growing import grow, numbered
from src.rounds.mixture import Mixture
from src.run import Run
from src.tracking.base import Tracker
from src.training import checkpoint
from src.training.dynamic_sampling import Batch, collect
from src.training.learner import Learner
from src.training.metrics_file import MetricsFile
from src.training.optimism import with_optimism, without_optimism
from src.training.rollout_files import rollout_file, write_rollouts
from src.training.settings import TrainCommand
from src.training.step_metrics import describe
from src.types import NumberError, Problem, Rollout, Scores
from src.utils.checkpoints import BEST
from src.utils.profiling import PREFIX, profiled
from src.utils.signals import StopRequest
from src.verifiers.judge import Judge

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a run from the position in ``state`` to its last step."""

    def __init__(
        self,
        run: Run,
        learner: Learner,
        state: checkpoint.State,
        metrics: MetricsFile,
        tracker: Tracker,
        stop: StopRequest,
        show: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.run, self.learner, self.state = run, learner, state
        self.metrics, self.tracker, self.stop, self.show = metrics, tracker, stop, show
        self.settings: TrainCommand = run.settings
        self.started = time.perf_counter() - state.seconds
        self._bad = 0  # rewards of the current step that were no finite numbers

    def train(self) -> dict[str, Any]:
        """Train all remaining steps. Returns the metrics of the last step.

        Raises:
            Stopped: a signal was received. The state is that after the last completed optimizer step.
        """
        settings, state = self.settings, self.state
        if settings.evaluation.at_start and not (state.step or state.validations):
            self.log({"step": 0, "problems_seen": 0, **self.validate()})
        while state.step < settings.train.steps or state.pending:
            if not state.pending:
                due = self.run.world.leads and state.step + 1 == settings.train.profile
                with profiled(self.run.directory / "profile", due):
                    state.pending = self.step(state.step)
                state.problems = state.pending["problems_seen"]
                state.verifier_failures += state.pending["verifier_failures"]
                state.nonfinite += state.pending["nonfinite"]
                state.step += 1
                self.run.step = state.step
            metrics = {**state.pending, **self.validate()}
            state.pending = {}
            self.log(metrics)
            if state.step % settings.checkpoint.every == 0 or state.step == settings.train.steps:
                self.save()
        return self.metrics.last()

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Record and show the metrics of a step; those of step 0 have a validation only."""
        for receive in (self.metrics.log, self.tracker.log, self.show):
            receive(metrics)

    def step(self, step: int) -> dict[str, Any]:
        """Sample a batch and update the policy on it; ``step`` is 0-based.

        Stop signals are handled before the update only, so an interrupted step changes nothing.
        """
        self.run.world.agree(self.interrupt)
        begin, failures, sent = time.perf_counter(), self.judge.failures, self.run.world.sent
        self._bad = 0
        batch = self.sample(step)
        sampled = time.perf_counter()
        with record_function(PREFIX + "training"), naming(step, ids(batch.rollouts)):
            right = batch.right if self.settings.algorithm.imitation else []
            update = self.learner.update(batch.credited.rows, right)
        counts = self.run.world.agree(lambda: (self._bad, self.judge.failures - failures))
        update["nonfinite"] += sum(bad for bad, _ in counts)
        end = time.perf_counter()
        if logged(step + 1, self.settings.train.rollouts_every):
            file = rollout_file(self.run.directory / "rollouts", step + 1)
            if self.run.world.leads:
                tokens = self.settings.train.log_tokens
                trees = write_rollouts(file, batch.rollouts, batch.scores, batch.credited, self.run.codec, tokens)
                self.tracker.rollouts(step + 1, trees)
        return {
            "step": step + 1,
            "problems_seen": self.state.problems + len(batch.rollouts),
            **describe(batch.rollouts, batch.scores, batch.credited),
            **({"dropped_problems": batch.dropped} if self.settings.algorithm.max_resamples else {}),
            **update,
            "verifier_failures": sum(failed for _, failed in counts),
            **({"traffic_bytes": self.run.world.sent - sent} if self.run.world.size > 1 else {}),
            "time/rollout": batch.growing,
            "time/reward": sampled - begin - batch.growing,
            "time/train": end - sampled,
            "tokens_per_second": sum(rollout.tokens for rollout in batch.rollouts) / (end - begin),
        }

    def sample(self, step: int) -> Batch:
        """Generate, score and credit the rollouts of a step."""
        settings, problems = self.settings, self.run.splits.train
        chosen = order(len(problems), settings.seed, step, settings.train.problems)
        picked = [problems[index] for index in chosen]
        if isinstance(settings.rounds, Mixture):
            picked = settings.rounds.assigned(picked)
        if settings.algorithm.max_resamples:
            further = [problems[index] for index in spares(len(problems), settings.seed, step, chosen)]
            grow_rollouts = self.growing(step)
            return collect(picked, further, settings.algorithm.max_resamples, grow_rollouts, self.score, self.credit)
        begin = time.perf_counter()
        rollouts = self.growing(step)(picked)
        growing = time.perf_counter() - begin
        scores = self.score(rollouts)
        return Batch(rollouts, scores, self.credit(rollouts, scores), 0, growing)

    def growing(self, step: int) -> Callable[[Sequence[Problem]], list[Rollout]]:
        """Return the function that generates the rollouts of a step: one round deep if the reward needs no more."""
        settings, run = self.settings, self.run
        depth = None if settings.reward.looks_ahead else 1
        key = (settings.seed, "train", step)

        def own(problems: Sequence[Problem]) -> list[Rollout]:
            with naming(step, {n: one.id for n, one in enumerate(problems)}):
                return grow(run.engine, settings.rounds, problems, run.codec, key, depth, interrupt=self.interrupt)

        def rollouts(problems: Sequence[Problem]) -> list[Rollout]:
            with record_function(PREFIX + "rollout"), run.policy.gathered():
                trees = run.world.share(problems, [len(problem.question) for problem in problems], own)
            return [numbered(tree, number) for number, tree in enumerate(trees)] if run.world.size > 1 else trees

        return rollouts

    def score(self, rollouts: Sequence[Rollout]) -> list[Scores]:
        """Score rollouts with the run's first verifier."""
        with naming(self.state.step, ids(rollouts)):
            count = self._count if self.settings.train.on_nonfinite == "skip" else None
            costs = [len(rollout.turns) for rollout in rollouts]
            reward, world = self.settings.reward, self.run.world
            return world.share(rollouts, costs, lambda some: reward.score(some, self.judge, count))

    def _count(self, error: NumberError) -> None:
        self._bad += 1
        logger.warning("step %d: %s; it scores 0", self.state.step + 1, error)

    def credit(self, rollouts: Sequence[Rollout], scores: Sequence[Scores]) -> Any:
        """Compute the training rows of scored rollouts."""
        return self.settings.credit.rows(rollouts, scores, self.settings.algorithm.advantages)

    @property
    def judge(self) -> Judge:
        """The verifier that decides."""
        return next(iter(self.run.scorers.values()))

    def interrupt(self) -> None:
        """Raise ``Stopped`` if a stop was requested."""
        if self.stop.requested is not None:
            raise self.stop.requested

    def validate(self) -> dict[str, float]:
        """Evaluate on the validation split if it is due at this step; save the weights if they are the best so far."""
        run, settings, step = self.run, self.settings.evaluation, self.state.step
        if not settings.every or (step % settings.every and step != self.settings.train.steps):
            return {}
        result = self.validated("validation")
        accuracy = result.interval
        self.state.validations = 1 + max(self.state.validations, (step - 1) // settings.every)
        verdicts = [right for (right,) in result.correct]
        looks = band(verdicts, self.state.validations)
        if settings.keep_best and accuracy.estimate > self.state.best.get("accuracy", -1.0):
            self.state.best = {"step": step, "accuracy": accuracy.estimate, "per_problem": verdicts}
            with run.policy.gathered():
                run.world.lead(lambda: checkpoint.save_best(run.directory, step, accuracy.estimate, run.policy))
        return {
            **{f"validation/{name}": value for name, value in result.metrics.items()},
            "validation/band_low": looks.low,
            "validation/band_high": looks.high,
        }

    def validated(self, stream: str) -> Evaluated:
        """Evaluate the current weights on the validation split once; ``stream`` names the random numbers."""
        run, settings, rounds = self.run, self.settings.evaluation, self.settings.rounds
        chains = rounds.independent(rounds.n, 1, settings.temperature, settings.top_p)
        place = run.engine, chains, run.splits.validation, run.codec, run.scorers
        with run.policy.gathered():
            return evaluate(*place, (self.settings.seed, stream), interrupt=self.interrupt, world=run.world)[0]

    def optimism(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The choice of the kept weights, which are loaded, with its optimism if it is measurable."""
        greedy = self.settings.evaluation.temperature == 0
        return without_optimism(found) if greedy else with_optimism(found, self.validated("validation again"))

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far in seconds, including the time before a resume."""
        return time.perf_counter() - self.started

    def restore_best(self) -> None:
        """Load the best weights into the policy, if the run keeps them."""
        if self.state.best:
            self.run.load(self.run.directory / "checkpoints" / BEST)

    def save(self) -> None:
        """Save a checkpoint of the last completed step."""
        run, state, keep = self.run, self.state, self.settings.checkpoint.keep
        state.seconds = self.seconds
        content = {
            "settings": run.config.values,
            "state": vars(state) | {"best": dict(state.best), "pending": dict(state.pending)},
            "optimizer": whole_state(self.learner.optimizer.state_dict(), keep=self.run.world.leads),
            "schedule": self.learner.schedule.state_dict(),
        }
        with run.policy.gathered():
            run.world.lead(lambda: checkpoint.save(run.directory, state.step, run.policy, content, keep))
        gc.collect()  # milliseconds, since ``frozen_objects`` exempts the libraries


def ids(rollouts: Sequence[Rollout]) -> dict[int, str]:
    """The problems' ids by tree."""
    return {rollout.turns[0].tree: rollout.problem.id for rollout in rollouts if rollout.turns}


@contextmanager
def naming(step: int, problems: Mapping[int, str]) -> Iterator[None]:
    """Add step (0-based), problem and turn to the message of a ``NumberError``; ``problems`` are ids by tree."""
    try:
        yield
    except NumberError as error:
        where = f"step {step + 1}"
        if error.tree is not None:
            where += f", problem {problems[error.tree]}, turn {'.'.join(map(str, error.path))}"
        raise NumberError(f"{where}: {error}", error.tree, error.path, error.fatal) from error


def logged(step: int, every: int) -> bool:
    """Whether the rollouts of a step (1-based) are written: of the first step and of every ``every``-th."""
    return step == 1 or step % every == 0


def order(count: int, seed: int, step: int, size: int) -> list[int]:
    """Indices of the ``size`` problems of a step (0-based), from a new seeded permutation in every epoch.

    No step spans two epochs: the remainder of an epoch is dropped, so no problem occurs twice in a step.
    """
    epoch, batch = divmod(step, count // size)
    return _permutation(count, f"{seed}/{epoch}")[batch * size : (batch + 1) * size]


def spares(count: int, seed: int, step: int, taken: Sequence[int]) -> list[int]:
    """Indices of all problems not in ``taken``, shuffled by seed and step, for dynamic sampling.

    The order depends on nothing else, so the number of spares used in a step does not affect later steps.
    """
    used = set(taken)
    return [index for index in _permutation(count, f"{seed}/spares/{step}") if index not in used]


@lru_cache(maxsize=2)
def _permutation(count: int, key: str) -> list[int]:
    indices = list(range(count))
    random.Random(key).shuffle(indices)
    return indices
