"""Plan a comparison of methods from finished runs: ``python -m src.plan runs='multirun/<date>/<time>/*' effect=2``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from src import config as configuration
from src.types import InputError


def plan(config: configuration.Config[Any], directory: Path) -> None:
    """Print what so many seeds and samples find, for every pair of groups of runs and every evaluation.

    Raises:
        InputError: no two groups have two seeds in common and an evaluation of the same problems.
    """
    from src.reporting.runs import find_runs, grouped

    settings = config.settings
    runs, left_out = find_runs(settings.runs)

    from src.reporting.pairs import compared  # heavy: nothing above needs it
    from src.reporting.power import design

    for line in left_out:
        print(f"left out: {line}")
    found = [design(settings, name, scores, taken) for name, scores, taken in compared(grouped(runs))]
    if not found:
        raise InputError(
            f"runs={settings.runs}: no two groups of runs have two seeds in common, evaluated on the same problems; "
            "train both methods with e.g. -m seed=0,1,2"
        )
    print("\n".join(found))


if __name__ == "__main__":
    sys.exit(configuration.launch("plan", plan))
