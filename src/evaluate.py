"""Evaluate a run or a model: ``python -m src.evaluate run=<run dir> benchmark=paper rounds=3``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from src import config as configuration


def evaluate(config: configuration.Config[Any], directory: Path) -> list[dict[str, Any]]:
    """Evaluate every test split at every number of rounds; returns the summaries.

    With ``run=``, the weights and settings are that run's, and results go to its ``evaluation`` folder; otherwise they
    go below ``directory``.

    Raises:
        InputError: problems or weights that cannot be used.
        SystemExit: a signal stopped the evaluation; splits that were finished are kept.
    """
    from src.evaluation.loop import evaluate_tests
    from src.evaluation.results import Results
    from src.run import build_run
    from src.utils import checkpoints
    from src.utils.console import Console
    from src.utils.environment import prepare, restore_threads
    from src.utils.signals import Stopped, StopRequest

    settings = config.settings
    checkpoint = None
    if settings.run is not None:
        directory = Path(settings.run)
        checkpoint = checkpoints.chosen(directory, settings.checkpoint)
        restore_threads(settings.threads, directory)
    else:
        prepare(settings.threads, directory)
    with StopRequest() as stop, Console() as console:
        run = build_run(config, directory, checkpoint)
        folder = directory / "evaluation"
        results = Results(folder / f"step_{run.step}" if settings.run is not None else folder)
        try:
            found = list(evaluate_tests(run, settings.evaluation, results, console.evaluation(stop.check)))
        except Stopped as stopped:
            console.note(f"{stopped}; the same command continues with the first split that is not finished.")
            raise SystemExit(stopped.code) from None
    summaries = [result.summary for result in found]
    console.evaluations(summaries, results.folder)
    return summaries


def job(config: configuration.Config[Any], directory: Path) -> None:
    """One evaluation."""
    evaluate(config, directory)


if __name__ == "__main__":
    sys.exit(configuration.launch("evaluate", job))
