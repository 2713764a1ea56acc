"""Train a policy: ``python -m src.train rounds=3 reward=outcome``. Resume a run: ``resume=<run dir>``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import config as configuration
from src import parallel
from src.types import InputError

if TYPE_CHECKING:
    from src.run import Run


def train(config: configuration.Config[Any], directory: Path | None = None) -> dict[str, Any]:
    """Run a whole training: evaluate the base, train, evaluate and publish the trained policy. Returns the summary.

    ``config`` comes from ``compose("train", overrides)``. Without a ``directory``, a new one is created below
    ``outputs``. If the directory holds checkpoints of this configuration, the run resumes from the newest.

    Raises:
        InputError: problems, weights or the directory cannot be used, or another process writes to the directory.
        SystemExit: a signal or the time limit stopped the run; a checkpoint was saved first.
    """
    from src.utils.run_lock import locked

    directory = directory or configuration.new_directory()
    with locked(directory) if parallel.world().leads else nullcontext():
        return trained(config, directory)


def trained(config: configuration.Config[Any], directory: Path) -> dict[str, Any]:
    """Run a training whose directory is locked; see ``train``."""
    from src.evaluation.loop import evaluate_tests
    from src.evaluation.results import Results, compare
    from src.run import build_run
    from src.tracking.base import Tracker
    from src.training import checkpoint
    from src.training.metrics_file import MetricsFile, NoMetrics
    from src.training.rollout_files import lost
    from src.training.trainer import Trainer, logged
    from src.utils import checkpoints
    from src.utils.console import Console
    from src.utils.environment import frozen_objects, make_deterministic, peak_memory
    from src.utils.files import write_json
    from src.utils.signals import Stopped, StopRequest

    settings, world = config.settings, parallel.world()
    environment = world.lead(lambda: prepared(config, directory, world.size))
    make_deterministic(environment["threads"])
    about: dict[str, Any] = {"choices": dict(config.choices), "environment": environment}
    with StopRequest(settings.train.max_time) as stop, Console(settings.train.steps) as console:
        saved = world.lead(lambda: checkpoints.to_continue(directory, console.note))
        run = world.together(lambda: build_run(config, directory, saved, world=world))
        if world.size > 1 and len(set(world.agree(lambda: (run.policy.base_hash, run.policy.trained_hash())))) > 1:
            raise InputError("the processes loaded different weights; give all of them the same files and settings")
        if settings.parallel.shards > 1:
            run.policy.shard(world.size // settings.parallel.shards, settings.parallel.shards)
        learner, state = world.together(lambda: restored(run, saved))
        copy = saved / checkpoint.METRICS if saved is not None else None
        values, file = {**config.values, **about}, directory / checkpoint.METRICS
        done = state.step - bool(state.pending)
        with (
            settings.tracking.open(directory, values, config.choices, state.tracker_id)
            if world.leads
            else Tracker() as tracker,
            MetricsFile(file, done, copy) if world.leads else NoMetrics() as metrics,
            frozen_objects(),
        ):
            if metrics.repaired:
                console.note(metrics.repaired)
            written = [step for step in range(1, state.step + 1) if logged(step, settings.train.rollouts_every)]
            if gone := lost(directory / "rollouts", written):
                console.note(
                    f"{directory / 'rollouts'}: the files of steps {gone} are missing or damaged; they stay so"
                )
            state.tracker_id = tracker.id
            trainer = Trainer(run, learner, state, metrics, tracker, stop, console.step)

            def evaluated(step: int) -> list[Any]:
                results = Results(directory / "evaluation" / f"step_{step}")
                show = console.evaluation(stop.check)
                return list(evaluate_tests(run, settings.evaluation, results, show, stop.check))

            try:
                before = []
                if settings.evaluation.before:
                    before = evaluated(0) if not state.step else world.together(lambda: base_results(run))
                console.train(state.step)
                last = trainer.train()
                other = evaluated(run.step) if state.best and state.best["step"] != run.step else []
                trainer.restore_best()
                after = evaluated(run.step)
                best = trainer.optimism(state.best) if state.best else {}
            except Stopped as stopped:
                trainer.save()
                console.note(f"{stopped}; saved a checkpoint of step {state.step}. Resume with:")
                console.note(f"python -m src.train resume={directory}")
                raise SystemExit(stopped.code) from None
            summary = {
                "complete": True,
                "seed": settings.seed,
                "base_sha256": run.policy.base_hash,
                "data": settings.benchmark.origin("train"),
                "final": last,
                "best": best,
                "reported_step": run.step,
                "verifier_failures": state.verifier_failures,
                "nonfinite": state.nonfinite,
                "evaluations": compare(before, after, other),
                "wall_clock_seconds": trainer.seconds,
                **about,
                **peak_memory(),
            }
            with run.policy.gathered():
                world.lead(lambda: publish(run, summary))
            if world.leads:
                tracker.summarize(summary)
                write_json(directory / "summary.json", summary)
    console.results(summary, directory, list(run.splits.tests.values())[-1][0].question)
    return summary


def prepared(config: configuration.Config[Any], directory: Path, processes: int) -> dict[str, Any]:
    """Check the run directory, record the configuration in it if it is new, and return the environment's record."""
    from src.utils.environment import prepare
    from src.utils.files import remove_drafts

    for folder in (directory, directory / "checkpoints", directory / "rollouts"):
        remove_drafts(folder)
    configuration.refuse_other_run(directory, config.node)
    if not (directory / ".hydra" / "config.yaml").exists():
        config.write(directory)
    return prepare(config.settings.train.threads, directory, processes)


def restored(run: Run, saved: Path | None) -> tuple[Any, Any]:
    """Return the learner and the state of a run: new ones, or those of the checkpoint ``saved``.

    Raises:
        InputError: the configuration was edited since the checkpoint was saved, the state is not that of such a run, or
            the best weights are damaged.
    """
    from src.models.sharding import sharded_state
    from src.training import checkpoint
    from src.training.learner import Learner
    from src.utils.checkpoints import intact_best

    settings = run.settings
    optimizer, schedule = settings.optimizer.build(
        run.policy.parameters(), settings.train.steps, settings.algorithm.iterations
    )
    bounds = settings.train.micro_batch_tokens, settings.train.max_grad_norm, settings.train.sampler_tolerance
    learner = Learner(
        run.policy,
        settings.algorithm,
        optimizer,
        schedule,
        *bounds,
        on_nonfinite=settings.train.on_nonfinite,
        world=run.world,
    )
    if saved is None:
        return learner, checkpoint.State()
    content = checkpoint.load_state(saved)
    try:
        if content["state"]["best"]:
            intact_best(run.directory)
        configuration.refuse_changes(run.directory, content["settings"], run.config.values)
        optimizer.load_state_dict(sharded_state(content["optimizer"], run.policy.parameters()))
        schedule.load_state_dict(content["schedule"])
        return learner, checkpoint.State(**content["state"])
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{saved}: holds no state of this run ({type(error).__name__}: {error})") from error


def base_results(run: Run) -> list[Any]:
    """Read the evaluations of the base that a resumed run made before its first step.

    Raises:
        InputError: a result file is missing; it cannot be made again after step 0.
    """
    from src.evaluation.loop import evaluations_of_base
    from src.evaluation.results import Results

    return evaluations_of_base(run, run.settings.evaluation, Results(run.directory / "evaluation" / "step_0"))


def publish(run: Run, summary: Mapping[str, Any]) -> None:
    """Write the reported weights and a model card, in the hub's layout, to the run's folder ``model``."""
    from src.reporting.model_card import card
    from src.utils.files import whole_folder, write_text

    with whole_folder(run.directory / "model") as folder:
        run.policy.write(folder)
        write_text(folder / "README.md", card(summary, run.config.values, run.config.overrides))


def job(config: configuration.Config[Any], directory: Path) -> float | None:
    """Run one Hydra job. A complete job of a sweep is skipped; a killed one is resumed. Returns its objective."""
    if (directory / "summary.json").exists():
        print(f"{directory}: already complete, skipped")
        return objective(json.loads((directory / "summary.json").read_text(encoding="utf-8")))
    return objective(parallel.call(train, config, directory))


def objective(summary: Mapping[str, Any]) -> float | None:
    """What a search maximizes: validation accuracy of the reported weights; ``None`` if it was never measured."""
    found = summary.get("best") or {"accuracy": summary.get("final", {}).get("validation/accuracy")}
    accuracy: float | None = found["accuracy"]
    return accuracy


def main() -> int:
    """Entry point of the command line, in every process. Returns the exit code."""
    return parallel.run(lead, train)


def lead() -> int:
    """Run the command in the process that composes the configuration. Returns the exit code."""
    arguments = sys.argv[1:]
    named = [Path(text.partition("=")[2]) for text in arguments if text.startswith("resume=")]
    if not named:
        return configuration.launch("train", job)
    try:
        if configuration.is_sweep(named[0]):
            rest = [text for text in arguments if not text.startswith("resume=")]
            return configuration.launch("train", job, configuration.recorded_arguments(named[0], "train", rest))
        directory, config = configuration.resume(arguments)
    except InputError as error:
        return configuration.complain(error, "nothing was run")
    try:
        return configuration.ended(lambda: resumed(config, directory), directory)
    except KeyboardInterrupt:
        return configuration.interrupted()


def resumed(config: configuration.Config[Any], directory: Path) -> None:
    """Continue a run, after storing the settings that changed."""
    from src.utils.run_lock import locked

    with locked(directory):
        configuration.store(directory, config)
        parallel.call(train, config, directory)


if __name__ == "__main__":
    sys.exit(main())
