"""Evaluate a run or a model: ``python -m src.evaluate run=<run dir> benchmark=paper rounds=3``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import config as configuration

if TYPE_CHECKING:
    from src.evaluation.controls import Sources
    from src.run import Run


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
            sources = controlled(run) if settings.control.active else None
            evaluations = list(evaluate_tests(run, settings.evaluation, results, show, stop.check, sources))
        except Stopped as stopped:
            console.note(f"{stopped}; run the same command again to continue with the first unfinished split.")
            raise SystemExit(stopped.code) from None
    summaries = [result.summary for result in evaluations]
    console.evaluations(summaries, results.folder)
    if settings.out is not None:
        write_json(Path(settings.out), summaries)
    return summaries


def controlled(run: Run) -> Sources:
    """What aggregations read instead of the policy's own drafts as they were written.

    Raises:
        InputError: the weights of ``control.drafts`` cannot be loaded.
    """
    from src.evaluation.controls import Sources
    from src.run import build_run
    from src.utils import checkpoints

    control = run.settings.control
    if control.drafts is None:
        return Sources(control, run.engine)
    place = Path(control.drafts)
    model = configuration.recorded(place).settings.model
    config = replace(run.config, settings=run.settings.replace(model=model))
    writer = build_run(config, place, checkpoints.chosen(place, None), run.splits)
    weights = {"base": writer.policy.base_hash, "trained": writer.policy.trained_hash()}
    return Sources(control, writer.engine, weights)


def job(config: configuration.Config[Any], directory: Path) -> None:
    """Run one evaluation job."""
    evaluate(config, directory)


if __name__ == "__main__":
    sys.exit(configuration.launch("evaluate", job))
