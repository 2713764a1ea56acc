"""Teach a model the protocol by imitation, for those that do not know it: ``python -m src.warmup model=smollm2-135m``.

Supervised learning of the adapter on the benchmark's own worked solutions, written as rounds.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from src import config as configuration

if TYPE_CHECKING:
    from omegaconf import DictConfig


def warm_up(config: DictConfig, run: Path) -> None:
    """Train the adapter and write it down, with the loss on the validation split before, on the way and after."""
    import itertools

    from rich.progress import track

    from src.estimating.fitting import check_memory
    from src.estimating.memory import Job
    from src.models.loading import load_codec, load_policy
    from src.sft.imitation import imitate, lessons, mean_loss, stream
    from src.tracking.trackers import MetricsFile
    from src.training import checkpoint
    from src.utils.environment import prepare
    from src.utils.files import write_json

    environment = prepare(config.threads, run)
    settings = configuration.build(config.imitation, configuration.section("imitation"))
    model = configuration.build(config.model, configuration.section("model"))
    strategy, benchmark = configuration.build(config.rounds), configuration.build(config.benchmark)
    splits = benchmark.load()
    codec = load_codec(model)
    held_out = splits.validation[: settings.validation_problems]
    configuration.check_lengths(strategy, [*splits.train, *held_out], codec)
    optimization = configuration.build(config.optimizer)
    check_memory(Job(model, 0, settings.micro_batch_tokens, optimization.moment_bytes))
    policy = load_policy(model, config.seed, codec=codec)
    end = policy.end_token
    rng = random.Random(f"{config.seed}/warmup/validation")
    seen = [row for problem in held_out for row in lessons(problem, strategy, codec, end, rng)]
    turns = stream(splits.train, strategy, codec, end, config.seed)
    optimizer, schedule = optimization.build(policy.parameters(), settings.steps)
    metrics = MetricsFile(run / "metrics.jsonl", after=0)
    losses = [mean_loss(policy, seen, settings.micro_batch_tokens)]
    print(f"validation loss {losses[0]:.4f}", flush=True)
    for step in track(range(1, settings.steps + 1), "supervised steps"):
        rows = list(itertools.islice(turns, settings.turns))
        line = {"step": step, **imitate(policy, rows, optimizer, schedule, settings)}
        if step % settings.validate_every == 0 or step == settings.steps:
            losses.append(mean_loss(policy, seen, settings.micro_batch_tokens))
            line["validation/loss"] = losses[-1]
            print(f"step {step}: loss {line['loss']:.4f}, validation loss {losses[-1]:.4f}", flush=True)
        metrics.log(line)
    metrics.close()
    checkpoint.save(run, settings.steps, policy, {})
    about = {"seed": config.seed, "base_sha256": policy.base_hash, "environment": environment}
    write_json(run / "summary.json", {"validation_loss": {"before": losses[0], "after": losses[-1]}, **about})


def job(config: DictConfig) -> None:
    """One warm-up under Hydra."""
    run = configuration.run_directory()
    warm_up(config, run)
    print(f"Train from it: python -m src.train model={configuration.choices()['model']} model.adapter={run}")


if __name__ == "__main__":
    sys.exit(configuration.launch("warmup", job))
