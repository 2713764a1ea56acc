"""``Run`` and ``build_run``: data, tokenizer, verifiers, policy and engine built from a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from src.benchmarks.base import Splits
from src.config import Config
from src.engines.agreement import check_agreement
from src.estimating.fitting import check_memory
from src.estimating.memory import Job
from src.models.loading import load_codec, load_policy
from src.models.policy import Policy
from src.models.tokenizer import TokenizerCodec
from src.rounds.base import Strategy
from src.rounds.growing import ALONE, World
from src.settings import RunSettings
from src.types import Engine, InputError, Problem
from src.utils.checkpoints import step_of
from src.verifiers.base import Verifier
from src.verifiers.judge import Judge

SHOWN = 3
"""Number of too-long problems that an error message names; further ones are only counted."""


@dataclass
class Run:
    """The components of a run. ``step`` is the training step of the policy's current weights, 0 before training."""

    config: Config[Any]
    directory: Path
    splits: Splits
    codec: TokenizerCodec
    judges: Sequence[Verifier]
    scorers: Mapping[str, Judge]  # by verifier name; the first one decides
    policy: Policy
    step: int = 0
    world: World = ALONE

    @property
    def settings(self) -> Any:
        """Typed settings of the command."""
        return self.config.settings

    @cached_property
    def floor_engine(self) -> Engine:
        """Engine that answers again to measure the floor: ``evaluation.floor_engine``, or the run's own."""
        settings = self.settings.evaluation.floor_engine
        if settings is None:
            return self.engine
        engine: Engine = settings.build(self.policy, self.settings.model)
        self._check(engine)
        return engine

    @cached_property
    def engine(self) -> Engine:
        """Engine that samples from the policy, after a check that it does so with the weights that are trained."""
        engine: Engine = self.settings.engine.build(self.policy, self.settings.model)
        self._check(engine)
        return engine

    def load(self, checkpoint: Path) -> None:
        """Load the weights of a checkpoint into the policy."""
        self.policy.load(checkpoint)
        self.step = step_of(checkpoint)
        if "engine" in self.__dict__:
            self._check(self.engine)

    def _check(self, engine: Engine) -> None:
        model = self.settings.model
        with self.policy.gathered():
            check_agreement(self.policy, engine, model.name, model.context)


def build_run(
    config: Config[Any],
    directory: Path,
    checkpoint: Path | None = None,
    splits: Splits | None = None,
    cache_tokens: int | None = None,
    world: World = ALONE,
) -> Run:
    """Build the components of a run, with the weights of ``checkpoint`` if given.

    ``splits`` replaces the benchmark's problems. ``cache_tokens`` replaces the engine's KV-cache size in the memory
    estimate.

    Raises:
        InputError: problems do not fit the context, there are too few of them, gold answers are missing, or weights
            cannot be loaded or do not fit into memory.
    """
    settings: RunSettings = config.settings
    splits = load_splits(settings) if splits is None else splits
    check_floor(settings, splits)
    assert settings.model is not None
    codec = load_codec(settings.model)
    assert settings.rounds is not None
    check_lengths(settings.rounds, splits.every, codec)
    judges = load_judges(settings, splits.every)
    own = settings.benchmark.score if settings.benchmark is not None else None
    scorers = {judge.name: Judge(judge.name, judge.scorer(own), judge.at_once) for judge in judges if own is not None}
    check_judges(judges, scorers, splits, settings.benchmark.name if settings.benchmark is not None else "")
    job = memory_job(settings)
    check_memory(job if cache_tokens is None else replace(job, cache_tokens=cache_tokens))
    policy = load_policy(settings.model, settings.seed, checkpoint, codec, keep_start=job.keep_start)
    step = step_of(checkpoint) if checkpoint is not None else 0
    return Run(config, directory, splits, codec, judges, scorers, policy, step, world)


def load_splits(settings: RunSettings) -> Splits:
    """Load the benchmark's problems; only the test splits if the command trains nothing.

    Raises:
        InputError: data cannot be read, or there are fewer training problems than one step needs.
    """
    assert settings.benchmark is not None
    splits: Splits = settings.benchmark.load()
    if settings.train is not None and len(splits.train) < settings.train.problems:
        raise InputError(
            f"benchmark={settings.benchmark.name} has {len(splits.train)} training problems, fewer than "
            f"train.problems={settings.train.problems} takes in one step; lower train.problems"
        )
    if settings.train is None and settings.imitation is None and settings.evaluation is not None:
        limit = settings.evaluation.limit
        return Splits([], [], {name: problems[:limit] for name, problems in splits.tests.items()})
    return splits


def check_floor(settings: RunSettings, splits: Splits) -> None:
    """Check that every test split can be answered in another layout of batches, if the measurement floor is asked for.

    Raises:
        InputError: a split has one problem only, which has one layout.
    """
    asked = settings.evaluation
    if asked is None or asked.floor is None or asked.floor_engine is not None:
        return
    if single := [name for name, problems in splits.tests.items() if len(problems[: asked.limit]) == 1]:
        raise InputError(
            f"evaluation.floor={asked.floor} answers again in another layout of batches, but the test split "
            f"{', '.join(single)} has one problem, which has one layout; use two problems or more (evaluation.limit), "
            "evaluation.floor=null, or another engine, e.g. evaluation.floor_engine=hf"
        )


def check_lengths(strategy: Strategy, problems: Sequence[Problem], codec: TokenizerCodec) -> None:
    """Check that every problem fits the model's context.

    Raises:
        InputError: some do not; the message names the first few and the settings.
    """
    errors = []
    for problem in problems:
        try:
            strategy.check_problem(problem, codec)
        except InputError as error:
            errors.append(str(error))
    if errors:
        more = [f"… and {len(errors) - SHOWN} more problems"] if len(errors) > SHOWN else []
        raise InputError(*errors[:SHOWN], *more)


def load_judges(settings: RunSettings, problems: Sequence[Problem]) -> list[Verifier]:
    """Return the run's verifier, followed by those of ``evaluation.also``.

    Raises:
        InputError: a verifier needs gold answers and a problem has none.
    """
    if settings.verifier is None or settings.benchmark is None:
        return []
    also = settings.evaluation.also if settings.evaluation is not None else []
    judges = [settings.verifier, *also]
    blank = next((problem.id for problem in problems if not problem.answer), None)
    if blank is not None and (needy := [judge.name for judge in judges if judge.needs_gold]):
        raise InputError(
            f"{blank} of benchmark={settings.benchmark.name} has no gold answer, which verifier={needy[0]} needs"
        )
    return judges


def check_judges(judges: Sequence[Verifier], scorers: Mapping[str, Judge], splits: Splits, benchmark: str = "") -> None:
    """Try each verifier on texts whose verdict is known.

    Raises:
        InputError: a verdict is wrong, or the verifier raises; the message names the verifier, ``benchmark`` and split.
    """
    errors = []
    for judge in judges:
        for split, problems in {"train": splits.train, "validation": splits.validation, **splits.tests}.items():
            try:
                errors += [f"the split {split}: {error}" for error in judge.trial(scorers[judge.name].scorer, problems)]
            except InputError:
                raise
            except Exception as error:
                errors.append(
                    f"the split {split}: verifier={judge.name} raised {type(error).__name__} on an answer to a problem "
                    f"of benchmark={benchmark}: {error}. It must give a number from 0 to 1 for any text"
                )
    if errors:
        raise InputError(*errors)


def memory_job(settings: RunSettings) -> Job:
    """Collect the settings that determine the memory use of a run."""
    assert settings.model is not None
    loop = settings.train or settings.imitation
    trains = settings.train is not None and settings.algorithm is not None and settings.rounds is not None
    return Job(
        model=settings.model,
        cache_tokens=settings.engine.cache_tokens if settings.engine is not None else 0,
        micro_batch_tokens=loop.micro_batch_tokens if loop is not None else 0,
        moment_bytes=settings.optimizer.moment_bytes if settings.optimizer is not None else None,
        keep_start=trains and needs_base(settings),
        lent=settings.engine.reserved if settings.engine is not None else 0.0,
    )


def needs_base(settings: RunSettings) -> bool:
    """Whether training needs the initial weights again: for a KL term, or to generate continuations."""
    assert settings.algorithm is not None
    assert settings.rounds is not None
    return bool(settings.algorithm.kl_beta) or settings.rounds.continuation == "base"
