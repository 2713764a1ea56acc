"""Evaluate any run or model on any benchmark at any number of rounds: ``python -m src.evaluate run=<run dir>
rounds=3``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import config as configuration

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate_splits(config: DictConfig) -> None:
    """Every test split at every number of rounds; results beside the run, or in this command's own directory."""
    from src.estimating.fitting import check_memory
    from src.estimating.memory import Job
    from src.evaluation.sampling import evaluate, write_evaluation
    from src.models.loading import load_codec, load_policy
    from src.utils.console import Display, show_evaluations
    from src.utils.environment import prepare

    out = configuration.run_directory()
    prepare(config.threads, out)
    saved, step = configuration.checkpoint_of(config)
    model = configuration.build(config.model, configuration.section("model"))
    settings = configuration.build(config.evaluation, configuration.section("evaluation"))
    strategy, benchmark = configuration.build(config.rounds), configuration.build(config.benchmark)
    tests = {split: problems[: settings.limit] for split, problems in benchmark.load().tests.items()}
    codec = load_codec(model)
    asked = [problem for test in tests.values() for problem in test]
    configuration.check_lengths(strategy, asked, codec)
    scorers = configuration.scorers(config, benchmark, asked)
    check_memory(Job(model, config.engine.get("max_batch_tokens", 0), lent=config.engine.get("memory", 0.0)))
    policy = load_policy(model, config.seed, saved, codec)
    engine = configuration.build(config.engine, weights=policy)
    folder = Path(config.run) / "evaluation" / f"step_{step}" if config.run else out / "evaluation"
    summaries: dict[str, Any] = {}
    with Display(0) as display:
        for split, problems in tests.items():
            for rounds in dict.fromkeys(settings.rounds):
                name = f"{benchmark.name}-{split}_rounds{rounds}"
                result, records = evaluate(
                    engine,
                    settings.chains(strategy, split, rounds),
                    problems,
                    policy.codec,
                    scorers,
                    (config.seed, "test", rounds),
                    progress=display.evaluation(name, len(problems)),
                )
                about = {"step": step, "seed": config.seed, "base_sha256": policy.base_hash}
                about["data"] = benchmark.origin(split)
                summaries[name] = write_evaluation(folder, name, result, records, **about).summary
    show_evaluations(summaries, folder)


if __name__ == "__main__":
    sys.exit(configuration.launch("evaluate", evaluate_splits))
