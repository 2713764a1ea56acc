"""Accuracy by length and under perturbations: ``python -m experiments.robustness.plot <folder> … --out <folder>``.

Reads the files that ``src.evaluate`` writes. Several folders are runs that differ in their seed only.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.benchmarks.perturbations import PERTURBATIONS
from src.evaluation.sampling import read_evaluation
from src.evaluation.statistics import Interval, accuracy, paired_difference
from src.reporting.plots import PALETTE, WIDTH, save, style
from src.reporting.tables import combine
from src.types import InputError
from src.utils.files import read_jsonl, write_text

NOTE = (
    "Over the problems that the perturbation changed; accuracies in %, differences in points, paired by problem, with "
    "95 % intervals in brackets. With several runs every number is a mean over them and its interval is Student's t."
)


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


def evaluations(folder: Path) -> list[tuple[str, int]]:
    """Benchmark and split, and the number of rounds, of every evaluation in a folder.

    Raises:
        InputError: there is none.
    """
    found = [re.fullmatch(r"(.+)_rounds(\d+)", file.stem) for file in folder.glob("*_rounds*.json")]
    names = sorted((match[1], int(match[2])) for match in found if match)
    if not names:
        raise InputError(f"{folder}: holds no evaluation (<benchmark>-<split>_rounds<n>.json); see src.evaluate")
    return names


def by_length(folders: Sequence[Path]) -> dict[int, dict[int, Interval]]:
    """Accuracy for each number of rounds and of terms, from the splits ``terms-<number>``."""
    values: dict[tuple[int, int], list[Interval]] = {}
    for folder in folders:
        for split, rounds in evaluations(folder):
            if match := re.search(r"-terms-(\d+)$", split):
                interval = read_evaluation(folder, f"{split}_rounds{rounds}").interval
                values.setdefault((rounds, int(match[1])), []).append(interval)
    result: dict[int, dict[int, Interval]] = {}
    for (rounds, terms), intervals in sorted(values.items()):
        result.setdefault(rounds, {})[terms] = combine(intervals, 0, 1)
    return result


def effects(folders: Sequence[Path]) -> list[Effect]:
    """Every perturbed split beside its original.

    Raises:
        InputError: a folder lacks the original of a perturbed split.
    """
    found: dict[tuple[str, int, str], list[Effect]] = {}
    for folder in folders:
        names = evaluations(folder)
        for perturbed, rounds in names:
            split, _, name = perturbed.rpartition("-")
            if name in PERTURBATIONS:
                if (split, rounds) not in names:
                    raise InputError(f"{folder}: {perturbed}_rounds{rounds} has no {split}_rounds{rounds} beside it")
                found.setdefault((split, rounds, name), []).append(_effect(folder, split, rounds, name))
    return [_mean(runs) for runs in found.values()]


def _effect(folder: Path, split: str, rounds: int, name: str) -> Effect:
    plain, perturbed = (_verdicts(folder, f"{one}_rounds{rounds}") for one in (split, f"{split}-{name}"))
    asked, anew = dict(plain.keys()), dict(perturbed.keys())  # questions by the ids of their problems
    if set(asked) != set(anew):
        raise InputError(f"{folder}: {split} and {split}-{name} were evaluated on different problems")
    changed = [problem for problem in asked if asked[problem] != anew[problem]]
    before = [plain[problem, asked[problem]] for problem in changed]
    after = [perturbed[problem, anew[problem]] for problem in changed]
    numbers = accuracy(before), accuracy(after), paired_difference(before, after)
    return Effect(split, rounds, name, len(changed), len(asked), *numbers)


def _verdicts(folder: Path, name: str) -> Mapping[tuple[str, str], list[float]]:
    """The verdicts on the samples of each problem, by its id and question."""
    verdicts: dict[tuple[str, str], list[float]] = {}
    for record in read_jsonl(folder / f"{name}.jsonl"):
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
    """Accuracy against the number of terms, a line for each number of rounds."""
    with style():
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        for index, (rounds, points) in enumerate(lengths.items()):
            shift = 0.12 * (index - (len(lengths) - 1) / 2)  # so that intervals stand side by side
            axes.errorbar(
                [terms + shift for terms in points],
                [value.estimate for value in points.values()],
                yerr=[
                    [value.estimate - value.low for value in points.values()],
                    [value.high - value.estimate for value in points.values()],
                ],
                color=PALETTE[index % len(PALETTE)],
                marker="o",
                capsize=3,
                elinewidth=1.3,
                label=f"{rounds} round{'s' if rounds > 1 else ''}",
            )
        axes.set_xticks(sorted({terms for points in lengths.values() for terms in points}))
        axes.set_ylim(-0.02, 1.02)  # a point at 0 is seen whole
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        axes.set(xlabel="terms of the sum", ylabel="accuracy (%)", title="Accuracy by length, 95 % intervals")
        axes.legend()
    return figure


def table(rows: Sequence[Effect]) -> str:
    """The effects as Markdown."""
    lines = [
        "| test split | rounds | perturbation | changed | unperturbed | perturbed | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row.split, str(row.rounds), row.name, f"{row.changed} of {row.problems}"]
        cells += [_percent(row.plain), _percent(row.perturbed), _percent(row.difference, "+")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\n{NOTE}\n"


def _percent(value: Interval, sign: str = "") -> str:
    estimate, low, high = (f"{100 * number:{sign}.1f}" for number in (value.estimate, value.low, value.high))
    return f"{estimate} [{low}, {high}]"


def main() -> None:
    """Write ``lengths.png`` and ``perturbations.md``, each where there is something to show."""
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
