"""Report on finished runs with tables, plots and rollouts: ``python -m src.report runs='outputs/*/*' out=report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from src import config as configuration


def report(config: configuration.Config[Any], directory: Path) -> None:
    """Read all complete runs that match the globs, and write their report into ``out``.

    Raises:
        InputError: no complete run matches.
    """
    from src.reporting.runs import find_runs, grouped

    settings = config.settings
    runs, left_out = find_runs(settings.runs)

    from src.reporting import (
        aggregations,
        answers,
        pages,
        pairs,
        plots,
        tables,
        variances,
    )  # heavy: nothing above needs them
    from src.utils.files import write_text

    for line in left_out:
        print(f"left out: {line}")
    groups = grouped(runs)
    rows = tables.results(groups)
    out = Path(settings.out)
    spread = variances.of_groups(groups)
    write_text(out / "results.md", tables.markdown(rows) + (f"\n{spread}" if spread else ""))
    write_text(out / "results.csv", tables.comma_separated(rows))
    write_text(out / "results.tex", tables.latex(rows))
    against = pairs.pairs(groups)
    if against:
        write_text(out / "pairs.md", pairs.markdown(against))
    texts = {
        "answers": answers.markdown(groups),
        "aggregations": aggregations.markdown(groups),
        "best": answers.kept(groups),
    }
    for name, text in texts.items():
        if text:
            write_text(out / f"{name}.md", text)
    for name, figure in (("curves", plots.curves(groups)), ("before_after", plots.before_after(rows))):
        for suffix in ("png", "svg"):
            plots.save(figure, out / f"{name}.{suffix}")
    page = pages.page(groups, settings.steps, settings.trees, settings.problems, settings.seeds)
    write_text(out / "rollouts.html", page)
    print(f"\n{tables.markdown(rows)}")
    print(
        f"{len(runs)} run{'s' if len(runs) > 1 else ''} in {len(groups)} group{'s' if len(groups) > 1 else ''}; ",
        end="",
    )
    print(f"tables, plots and rollouts.html are in {out}")


if __name__ == "__main__":
    sys.exit(configuration.launch("report", report))
