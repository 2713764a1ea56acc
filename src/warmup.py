"""Supervised warm-up on worked solutions split into rounds, for models that do not know the protocol.

``python -m src.warmup model=smollm2-135m``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from src import config as configuration


def warm_up(config: configuration.Config[Any], directory: Path) -> dict[str, Any]:
    """Train the adapter on worked solutions and save it. Returns the summary.

    Raises:
        InputError: a problem has no worked solution, or weights cannot be used.
    """
    import itertools

    from rich.progress import track

    from src.run import build_run
    from src.sft.imitation import held_out, losses, mean_loss, stream
    from src.sft.loop import supervise
    from src.training import checkpoint
    from src.training.metrics_file import MetricsFile
    from src.utils.environment import prepare
    from src.utils.files import write_json

    settings, imitation = config.settings, config.settings.imitation
    environment = prepare(settings.threads, directory)
    run = build_run(config, directory)
    policy, codec, rounds, budget = run.policy, run.codec, settings.rounds, imitation.micro_batch_tokens
    end, progress = policy.end_token, imitation.progress
    problems = run.splits.validation[: imitation.validation_problems]
    validation_rows = held_out(problems, rounds, codec, end, settings.seed, progress)
    turns = stream(run.splits.train, rounds, codec, end, settings.seed, progress)
    # All batches are built before training, so that a problem without a worked solution fails here and not hours later.
    batches = [list(itertools.islice(turns, imitation.turns)) for _ in range(imitation.steps)]
    optimizer, schedule = settings.optimizer.build(policy.parameters(), imitation.steps)
    validation = [mean_loss(policy, validation_rows, budget)]
    print(f"validation loss {validation[0]:.4f}", flush=True)
    steps = supervise(batches, lambda rows: losses(policy, rows, budget), optimizer, schedule, imitation.max_grad_norm)
    with MetricsFile(directory / "metrics.jsonl", after=0) as metrics:
        for step, line in enumerate(track(steps, "supervised steps", total=imitation.steps), start=1):
            if step % imitation.validate_every == 0 or step == imitation.steps:
                validation.append(mean_loss(policy, validation_rows, budget))
                line["validation/loss"] = validation[-1]
                print(f"step {step}: loss {line['loss']:.4f}, validation loss {validation[-1]:.4f}", flush=True)
            trained = sum(len(row.completion) for row in batches[step - 1])
            metrics.log({"step": step, **line, "tokens/trained": trained})
    checkpoint.save(directory, imitation.steps, policy, {})
    summary = {
        "validation_loss": {"before": validation[0], "after": validation[-1]},
        "seed": settings.seed,
        "base_sha256": policy.base_hash,
        "environment": environment,
    }
    write_json(directory / "summary.json", summary)
    return summary


def job(config: configuration.Config[Any], directory: Path) -> None:
    """Run one warm-up job."""
    warm_up(config, directory)
    print(f"Train from it: python -m src.train model={config.choices['model']} model.adapter={directory}")


if __name__ == "__main__":
    sys.exit(configuration.launch("warmup", job))
