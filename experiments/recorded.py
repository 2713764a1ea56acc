"""Rebuild a recorded study from its summaries: ``python -m experiments.recorded experiments/credit``.

``<study>/groups.json`` names each group of runs and the summaries in ``<study>/runs`` that belong to it. Writes
``results.{md,csv,tex}`` and ``before_after.png``, and replaces the same table in the study's README. A folder with
``jobs.json`` is the record of ``python -m src.study <name> --record <folder>``; its ``report.md`` is written again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from src.reporting import plots, tables
from src.reporting.runs import Group, Run
from src.studies import recording
from src.studies.recording import JOBS
from src.utils.files import write_text

TABLE = "| runs | test split |"
"""The beginning of the table in a README that is replaced."""


def groups(study: Path) -> list[Group]:
    """The recorded runs of a study by group, in the order of their seeds."""
    named = json.loads((study / "groups.json").read_text(encoding="utf-8"))
    return [Group(label, _runs(sorted((study / "runs").glob(pattern)))) for label, pattern in named.items()]


def _runs(files: Sequence[Path]) -> tuple[Run, ...]:
    summaries = [(file, json.loads(file.read_text(encoding="utf-8"))) for file in files]
    runs = [
        Run(file, one["seed"], one["choices"]["benchmark"], {}, one["choices"], frozenset(), one, [])
        for file, one in summaries
    ]
    return tuple(sorted(runs, key=lambda run: run.seed))


def with_table(text: str, table: str) -> str:
    """``text`` with its table of results, and the note below it, replaced; unchanged if it has none."""
    start = text.find(TABLE)
    if start < 0:
        return text
    _, _, rest = text[start:].partition("\n\n")  # the table, a blank line, the note
    _, _, rest = rest.partition("\n\n")
    return text[:start] + table.rstrip("\n") + "\n\n" + rest


def rebuild(study: Path) -> dict[str, str]:
    """The text files of a study, by name, computed from its summaries."""
    rows = tables.results(groups(study))
    table = tables.markdown(rows)
    texts = {
        "results.md": table,
        "results.csv": tables.comma_separated(rows),
        "results.tex": tables.latex(rows),
    }
    readme = study / "README.md"  # a study within a study has none
    return texts | ({"README.md": with_table(readme.read_text(encoding="utf-8"), table)} if readme.is_file() else {})


def main() -> None:
    """Rebuild the studies that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", type=Path, help="folders with groups.json or jobs.json")
    for study in parser.parse_args().studies:
        if (study / JOBS).is_file():
            recording.rebuild(study)
            continue
        for name, text in rebuild(study).items():
            write_text(study / name, text)
        plots.save(plots.before_after(tables.results(groups(study))), study / "before_after.png")


if __name__ == "__main__":
    main()
