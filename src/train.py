"""Train a policy: ``python -m src.train rounds=3 reward=outcome``; go on with one: ``resume=<run dir>``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import config as configuration
from src.types import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from src.models.policy import Policy
    from src.training.trainer import State, Study


def train(config: DictConfig, run: Path, choices: Mapping[str, str]) -> None:
    """A whole run: evaluation before, training, evaluation after, summary."""
    from src.training.trainer import Trainer
    from src.utils.console import Display, show_results
    from src.utils.environment import peak_memory, prepare
    from src.utils.signals import Stopped, StopRequest

    environment = prepare(config.train.threads, run)
    with StopRequest() as stop, Display(config.train.steps) as display:
        study, state = assemble(config, run)
        about: dict[str, Any] = {"choices": dict(choices), "environment": environment}
        settings = configuration.plain(config)
        state.tracker_id = study.tracker.start(run, {**settings, **about}, choices, state.tracker_id)
        trainer = Trainer(study, state, settings, stop, display.step)
        try:
            before = trainer.test_base(display.evaluation) if config.evaluation.before else {}
            display.train(state.step)
            last = trainer.train()
            after = trainer.test(trainer.restore_best(), display.evaluation)
        except Stopped as stopped:
            trainer.save()
            study.tracker.finish({"complete": False})
            display.note(f"{stopped}; a checkpoint of step {state.step} is saved. Continue with:")
            display.note(f"python -m src.train resume={run}")
            raise SystemExit(stopped.code) from None
        summary = trainer.summarize(last, before, after, **about, **peak_memory())
    publish(study.policy, run, summary, settings)
    example = list(study.splits.tests.values())[-1][0]
    show_results(run, summary, example.question)


def publish(policy: Policy, run: Path, summary: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """The trained weights with a README, as the hub wants them: the folder ``model`` of the run."""
    from src.reporting.model_card import card
    from src.utils.files import whole_folder, write_text

    with whole_folder(run / "model") as folder:
        policy.write(folder)
        write_text(folder / "README.md", card(summary, settings, configuration.overrides(run)))


def assemble(config: DictConfig, run: Path) -> tuple[Study, State]:
    """Build every part from its section, and put a resumed run back to its newest checkpoint."""
    from src.estimating.fitting import check_memory
    from src.estimating.memory import Job
    from src.models.loading import load_codec, load_policy
    from src.training import checkpoint
    from src.training.learner import Learner
    from src.training.trainer import State, Study

    model = configuration.build(config.model, configuration.section("model"))
    strategy = configuration.build(config.rounds)
    benchmark = configuration.build(config.benchmark)
    algorithm = configuration.build(config.algorithm)
    splits = benchmark.load()
    if len(splits.train) < config.train.problems:
        raise InputError(
            f"benchmark={benchmark.name} gives {len(splits.train)} training problems, train.problems="
            f"{config.train.problems} asks for more"
        )
    codec = load_codec(model)
    problems = [*splits.train, *splits.validation, *(problem for test in splits.tests.values() for problem in test)]
    configuration.check_lengths(strategy, problems, codec)
    scorers = configuration.scorers(config, benchmark, problems)
    saved = checkpoint.latest(run) if checkpoint.steps(run) else None
    needs_base = bool(algorithm.kl_beta) or strategy.continuation == "base"
    settings = configuration.build(config.optimizer)
    cache = config.engine.get("max_batch_tokens", 0)
    lent = config.engine.get("memory", 0.0)
    check_memory(Job(model, cache, config.train.micro_batch_tokens, settings.moment_bytes, needs_base, lent))
    policy = load_policy(model, config.seed, saved, codec, keep_start=needs_base)
    optimizer, schedule = settings.build(policy.parameters(), config.train.steps * algorithm.iterations)
    bounds = config.train.micro_batch_tokens, config.train.max_grad_norm, config.train.sampler_tolerance
    learner = Learner(policy, algorithm, optimizer, schedule, *bounds)
    state = State()
    if saved:
        content = checkpoint.load_state(saved)
        optimizer.load_state_dict(content["optimizer"])
        schedule.load_state_dict(content["schedule"])
        state = State(**content["state"])
        configuration.refuse_changes(run, content["settings"], configuration.plain(config))
    study = Study(
        run=run,
        seed=config.seed,
        policy=policy,
        engine=configuration.build(config.engine, weights=policy),
        strategy=strategy,
        reward=configuration.build(config.reward),
        credit=configuration.credit_rule(config.reward.credit),
        algorithm=algorithm,
        learner=learner,
        benchmark=benchmark,
        scorers=scorers,
        splits=splits,
        tracker=configuration.build(config.tracking),
        train=configuration.build(config.train, configuration.section("train")),
        evaluation=configuration.build(config.evaluation, configuration.section("evaluation")),
        checkpoints=configuration.build(config.checkpoint, configuration.section("checkpoint")),
    )
    return study, state


def job(config: DictConfig) -> None:
    """One run under Hydra; a job of a sweep that is already complete is skipped, one that was killed continues."""
    run = configuration.run_directory()
    if (run / "summary.json").exists():
        print(f"{run}: complete, skipped")
        return
    train(config, run, configuration.choices())


def main() -> int:
    """The command line; returns the exit code."""
    arguments = sys.argv[1:]
    if not any(argument.startswith("resume=") for argument in arguments):
        return configuration.launch("train", job)
    try:
        run, config, choices = configuration.resume(arguments)
        configuration.extend(run, config.train.steps)
        train(config, run, choices)
    except InputError as error:
        return configuration.complain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
