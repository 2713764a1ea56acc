"""Evaluate a run or a model: ``python -m src.evaluate run=<run dir> benchmark=paper rounds=3``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from src import config as configuration


def evaluate(config: configuration.Config[Any], directory: Path) -> list[dict[str, Any]]:
    """Evaluate every test split at every number of rounds. Returns the summaries.

    With ``run=``, weights and settings come from that run and results go to its ``evaluation`` folder. Otherwise
    results go to ``directory/evaluation``.

    Raises:
        InputError: problems or weights cannot be used.
        SystemExit: a signal stopped the evaluation; finished splits are kept.
    """
    from src.utils import checkpoints

    settings = config.settings
    checkpoint = None
    if settings.run is not None:
        directory = Path(settings.run)
        checkpoint = checkpoints.chosen(directory, settings.checkpoint)

    from src.evaluation.loop import evaluate_tests  # heavy: nothing above needs it
    from src.evaluation.results import Results
    from src.run import build_run
    from src.utils.console import Console
    from src.utils.environment import prepare, restore_threads
    from src.utils.files import write_json
    from src.utils.signals import Stopped, StopRequest

    if settings.run is not None:
        restore_threads(settings.threads, directory)
    else:
        prepare(settings.threads, directory)
    with StopRequest() as stop, Console() as console:
        run = build_run(config, directory, checkpoint)
        folder = directory / "evaluation"
        results = Results(folder / f"step_{run.step}" if settings.run is not None else folder)
        try:
            show = console.evaluation(stop.check)
            evaluations = list(evaluate_tests(run, settings.evaluation, results, show, stop.check))
        except Stopped as stopped:
            console.note(f"{stopped}; run the same command again to continue with the first unfinished split.")
            raise SystemExit(stopped.code) from None
    summaries = [result.summary for result in evaluations]
    console.evaluations(summaries, results.folder)
    if settings.out is not None:
        write_json(Path(settings.out), summaries)
    return summaries


def job(config: configuration.Config[Any], directory: Path) -> None:
    """Run one evaluation job."""
    evaluate(config, directory)


if __name__ == "__main__":
    sys.exit(configuration.launch("evaluate", job))
