"""Tables, plots and a page of rollouts from finished runs: ``python -m src.report runs='outputs/*/*' out=report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from src import config as configuration
from src.types import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def report(config: DictConfig) -> None:
    """Read every complete run that the globs match, and write what they say into ``out``.

    Raises:
        InputError: nothing to report on, or a number of steps or trees below 1.
    """
    from src.reporting import pages, pairs, plots, tables
    from src.reporting.runs import find_runs, grouped
    from src.utils.files import write_text

    wrong = [name for name in ("steps", "trees") if not isinstance(config[name], int) or config[name] < 1]
    if wrong:
        raise InputError(*(f"{name}={config[name]} must be a whole number, 1 or more" for name in wrong))
    patterns = [config.runs] if isinstance(config.runs, str) else config.runs
    runs, left_out = find_runs(map(str, patterns))
    for line in left_out:
        print(f"left out: {line}")
    groups = grouped(runs)
    rows = tables.results(groups)
    out = Path(config.out)
    write_text(out / "results.md", tables.markdown(rows))
    write_text(out / "results.csv", tables.comma_separated(rows))
    write_text(out / "results.tex", tables.latex(rows))
    against = pairs.pairs(groups)
    if against:
        write_text(out / "pairs.md", pairs.markdown(against))
    for name, figure in (("curves", plots.curves(groups)), ("before_after", plots.before_after(rows))):
        for suffix in ("png", "svg"):
            plots.save(figure, out / f"{name}.{suffix}")
    write_text(out / "rollouts.html", pages.page(groups, config.steps, config.trees))
    print(f"\n{tables.markdown(rows)}")
    print(
        f"{len(runs)} run{'s' if len(runs) > 1 else ''} in {len(groups)} group{'s' if len(groups) > 1 else ''}; ",
        end="",
    )
    print(f"tables, plots and rollouts.html are in {out}")


if __name__ == "__main__":
    sys.exit(configuration.launch("report", report))
