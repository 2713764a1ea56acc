"""Accuracy by length and under perturbations: ``python -m experiments.robustness.plot <folder> … --out <folder>``.

Reads the files that ``src.evaluate`` writes. Several folders are runs that differ in their seed only.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.benchmarks.perturbations import PERTURBATIONS
from src.evaluation.statistics import Interval, accuracy, paired_difference
from src.reporting.looks import look
from src.reporting.plots import WIDTH, save, style
from src.reporting.tables import combine
from src.types import InputError
from src.utils import tables
from src.utils.files import read_jsonl, write_text

NOTE = (
    "Only problems that the perturbation changed. Accuracies in %, differences in points, paired by problem, with 95 % "
    "intervals in brackets. With several runs, numbers are means over runs; an interval covers both runs and problems "
    "(the half-widths of Student's t over runs and of the mean interval over problems, added in quadrature)."
)

TERMS = re.compile(r"-terms-(\d+)$")
"""The end of the name of a split with one number of terms."""


@dataclass(frozen=True)
class Effect:
    """A perturbation of a test split at a number of rounds: accuracy on the changed problems, before and after."""

    split: str
    rounds: int
    name: str
    changed: int
    problems: int
    plain: Interval
    perturbed: Interval
    difference: Interval


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's summary and where it is; ``split`` is ``<benchmark>-<test split>``."""

    file: Path
    split: str
    rounds: int
    summary: Mapping[str, Any]

    @property
    def interval(self) -> Interval:
        """Accuracy with its interval."""
        return Interval(*(self.summary[part] for part in ("accuracy", "low", "high")))

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """Everything that decided the result except the problems; ``None`` in older summaries."""
        decided = self.summary.get("decided_by")
        return None if decided is None else {name: value for name, value in decided.items() if name != "problems"}


def evaluations(folder: Path) -> list[Evaluation]:
    """Read all evaluations in a folder.

    Older summaries do not name their benchmark and split; these are read from the file name.

    Raises:
        InputError: there is none.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        if "split" in summary:
            found.append(Evaluation(file, f"{summary['benchmark']}-{summary['split']}", summary["rounds"], summary))
        elif match := re.fullmatch(r"(.+)_rounds(\d+)", file.stem):
            found.append(Evaluation(file, match[1], int(match[2]), summary))
    if not found:
        raise InputError(f"{folder}: holds no evaluation (<benchmark>-<split>_rounds<n>.json); see src.evaluate")
    return sorted(found, key=lambda one: (one.split, one.rounds, one.file.name))


def by_length(folders: Sequence[Path]) -> dict[int, dict[int, Interval]]:
    """Accuracy for each number of rounds and of terms, from the splits ``terms-<number>``.

    Raises:
        InputError: a folder holds several evaluations of such a split at a number of rounds.
    """
    values: dict[tuple[int, int], list[Interval]] = {}
    for folder in folders:
        for one in _single([one for one in evaluations(folder) if TERMS.search(one.split)]):
            terms = int(TERMS.search(one.split)[1])  # type: ignore[index]
            values.setdefault((one.rounds, terms), []).append(one.interval)
    result: dict[int, dict[int, Interval]] = {}
    for (rounds, terms), intervals in sorted(values.items()):
        result.setdefault(rounds, {})[terms] = combine(intervals, 0, 1)
    return result


def effects(folders: Sequence[Path]) -> list[Effect]:
    """Compare every perturbed split with its original under the same settings.

    Raises:
        InputError: a folder lacks the original of a perturbed split, or holds several evaluations of the latter.
    """
    found: dict[tuple[str, int, str], list[Effect]] = {}
    for folder in folders:
        there = evaluations(folder)
        for perturbed in _single([one for one in there if one.split.rpartition("-")[2] in PERTURBATIONS]):
            split, _, name = perturbed.split.rpartition("-")
            plain = [
                one
                for one in there
                if (one.split, one.rounds, one.settings) == (split, perturbed.rounds, perturbed.settings)
            ]
            if not plain:
                raise InputError(
                    f"{folder}: {perturbed.split}_rounds{perturbed.rounds} has no {split}_rounds{perturbed.rounds} "
                    "beside it that was evaluated with the same settings"
                )
            found.setdefault((split, perturbed.rounds, name), []).append(_effect(plain[0], perturbed, name))
    return [_mean(runs) for runs in found.values()]


def _single(found: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """Check that no two evaluations have the same split and number of rounds.

    Raises:
        InputError: two have, so it is ambiguous which one is meant.
    """
    files: dict[tuple[str, int], Path] = {}
    for one in found:
        other = files.setdefault((one.split, one.rounds), one.file)
        if other != one.file:
            raise InputError(
                f"{one.file.parent}: {other.name} and {one.file.name} are evaluations of one split with different "
                "settings; move one of them (with its .jsonl) elsewhere"
            )
    return found


def _effect(before: Evaluation, after: Evaluation, name: str) -> Effect:
    plain, perturbed = _verdicts(before), _verdicts(after)
    asked, anew = dict(plain.keys()), dict(perturbed.keys())  # questions by the ids of their problems
    if set(asked) != set(anew):
        raise InputError(f"{before.file.parent}: {before.split} and {after.split} were evaluated on different problems")
    changed = [problem for problem in asked if asked[problem] != anew[problem]]
    rows = [plain[problem, asked[problem]] for problem in changed]
    rows_anew = [perturbed[problem, anew[problem]] for problem in changed]
    numbers = accuracy(rows), accuracy(rows_anew), paired_difference(rows, rows_anew)
    return Effect(before.split, before.rounds, name, len(changed), len(asked), *numbers)


def _verdicts(evaluation: Evaluation) -> Mapping[tuple[str, str], list[float]]:
    """The verdicts on the samples of each problem, by its id and question."""
    verdicts: dict[tuple[str, str], list[float]] = {}
    for record in read_jsonl(evaluation.file.with_suffix(".jsonl")):
        verdicts.setdefault((record["id"], record["question"]), []).append(record["correct"])
    return verdicts


def _mean(runs: Sequence[Effect]) -> Effect:
    first = runs[0]
    return Effect(
        first.split,
        first.rounds,
        first.name,
        round(statistics.fmean(run.changed for run in runs)),
        first.problems,
        combine([run.plain for run in runs], 0, 1),
        combine([run.perturbed for run in runs], 0, 1),
        combine([run.difference for run in runs], -1, 1),
    )


def curves(lengths: Mapping[int, Mapping[int, Interval]]) -> Figure:
    """Plot accuracy against the number of terms, one line per number of rounds."""
    with style():
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        for index, (rounds, points) in enumerate(lengths.items()):
            shift = 0.12 * (index - (len(lengths) - 1) / 2)  # intervals side by side
            axes.errorbar(
                [terms + shift for terms in points],
                [value.estimate for value in points.values()],
                yerr=[
                    [value.estimate - value.low for value in points.values()],
                    [value.high - value.estimate for value in points.values()],
                ],
                capsize=3,
                elinewidth=1.3,
                label=f"{rounds} round{'s' if rounds > 1 else ''}",
                **look(index).line,
            )
        axes.set_xticks(sorted({terms for points in lengths.values() for terms in points}))
        axes.set_ylim(-0.02, 1.02)  # shows points at 0 completely
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        axes.set(xlabel="terms of the sum", ylabel="accuracy (%)", title="Accuracy by length, 95 % intervals")
        axes.legend()
    return figure


def table(rows: Sequence[Effect]) -> str:
    """The effects as a Markdown table."""
    headings = ("test split", "rounds", "perturbation", "changed", "unperturbed", "perturbed", "difference")
    cells = []
    for row in rows:
        numbers = _percent(row.plain), _percent(row.perturbed), _percent(row.difference, "+")
        cells.append([row.split, str(row.rounds), row.name, f"{row.changed} of {row.problems}", *numbers])
    return f"{tables.markdown(headings, cells)}\n\n{NOTE}\n"


def _percent(value: Interval, sign: str = "") -> str:
    estimate, low, high = (f"{100 * number:{sign}.1f}" for number in (value.estimate, value.low, value.high))
    return f"{estimate} [{low}, {high}]"


def main() -> None:
    """Write ``lengths.png`` and ``perturbations.md``, each if the folders hold such splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="evaluation folders, one for each run")
    parser.add_argument("--out", type=Path, help="where to write; the first folder if not given")
    given = parser.parse_args()
    out = given.out or given.folders[0]
    try:
        lengths, rows = by_length(given.folders), effects(given.folders)
        if not lengths and not rows:
            raise InputError(f"{given.folders[0]}: no split is named terms-<number>, and none is perturbed")
    except InputError as error:
        parser.error(str(error))
    if lengths:
        save(curves(lengths), out / "lengths.png")
    if rows:
        write_text(out / "perturbations.md", table(rows))


if __name__ == "__main__":
    main()
