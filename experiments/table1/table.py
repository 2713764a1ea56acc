"""Table 1 of MOTIF's paper beside our runs: ``python -m experiments.table1.table [<run directory> …] --out <folder>``.

The runs are those of ``experiment=paper-motif`` and ``experiment=paper-grpo``. Rows without a run say "not run".
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.table1.cost import (
    CACHE,
    CONTEXT,
    DEVICES,
    LIMITS,
    POLICIES,
    PROGRESS,
    TURNS,
    Lengths,
    budgets,
    cost_table,
    equal_steps,
    evaluation_hours,
    memory_table,
    qwen,
    training_hours,
)
from experiments.table1.runs import BENCHMARK, EQUAL, PROBLEMS, STEPS, read
from src.estimating.shape import Shape
from src.evaluation.statistics import Interval, wilson
from src.reporting.evaluations import Name, evaluations
from src.reporting.tables import combine
from src.types import InputError
from src.utils import tables
from src.utils.files import write_text

PAPER = {
    ("base", 1): {"math500": 0.376, "aime2024": 0 / 30},
    ("GRPO", 1): {"math500": 0.448, "aime2024": 1 / 30},
    ("MOTIF", 3): {"math500": 0.486, "aime2024": 2 / 30},
}
"""Table 1 of arXiv 2507.02851, by policy and number of rounds."""

SCORINGS = ("published", "corrected")


@dataclass(frozen=True)
class Row:
    """A policy on a test split at a number of rounds under one scoring; ``ours`` is ``None`` without a run."""

    policy: str
    rounds: int
    split: str
    scoring: str
    paper: Interval | None
    ours: Interval | None
    tokens: float | None
    seeds: int


def rows(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """All rows. The base's results are from the evaluations before training of MOTIF's runs, else of GRPO's."""
    return [
        _row(policy, rounds, split, scoring, runs)
        for policy in POLICIES
        for rounds in (1, 3)
        for split in PROBLEMS
        for scoring in SCORINGS
    ]


def _row(policy: str, rounds: int, split: str, scoring: str, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Row:
    source = runs.get(policy, [])
    if policy == "base":
        source = runs.get("MOTIF") or runs.get("GRPO") or runs.get(EQUAL) or []
    part, name = "before" if policy == "base" else "after", Name(BENCHMARK, split, rounds)
    seen = [evaluations(run, part, BENCHMARK).get(name) for run in source]
    made = [one for one in seen if one is not None]
    judged = [(one, verdict) for one in made if (verdict := _verdict(one, scoring)) is not None]
    rate = PAPER.get((policy, rounds), {}).get(split) if scoring == "published" else None
    return Row(
        policy,
        rounds,
        split,
        scoring,
        paper=None if rate is None else wilson(rate, PROBLEMS[split]),
        ours=combine([verdict for _, verdict in judged], 0, 1) if judged else None,
        tokens=statistics.fmean(one["tokens_per_answer"] for one, _ in judged) if judged else None,
        seeds=len(judged),
    )


def _verdict(evaluation: Mapping[str, Any], scoring: str) -> Interval | None:
    """Accuracy by the published verifier or by the corrected one; either may be the main verifier of the run."""
    verdicts = {evaluation["verifier"]: evaluation, **evaluation.get("also", {})}
    names = [name for name in verdicts if (name == "published") == (scoring == "published")]
    return Interval(*(verdicts[names[0]][key] for key in ("accuracy", "low", "high"))) if names else None


def results_table(found: Sequence[Row], shape: Shape, lengths: Lengths) -> str:
    """All rows as a Markdown table, with the GPU hours of each."""
    heads = ["policy", "rounds", "test", "scoring", "paper", "ours", "tokens per answer", "seeds"]
    heads += [f"GPU-h {device.name}" for device in DEVICES]
    lines = []
    for row in found:
        cells = [row.policy, str(row.rounds), row.split, row.scoring, _percent(row.paper)]
        cells += [_percent(row.ours) if row.ours else "not run", f"{row.tokens:.0f}" if row.tokens is not None else "-"]
        cells += [str(row.seeds)]
        for device in DEVICES:
            trained = 0.0 if row.policy == "base" else training_hours(shape, device, row.policy, lengths)
            asked = evaluation_hours(shape, device, row.rounds, PROBLEMS[row.split], lengths)
            cells.append(f"{trained + asked:.2f}")
        lines.append(cells)
    return tables.markdown(heads, lines)


def document(runs: Mapping[str, Sequence[Mapping[str, Any]]], prompt: float, tokens: float) -> str:
    """All tables with their assumptions. Measured lengths of MOTIF's runs, if there are any, replace ``tokens``."""
    shape = qwen()
    measured = [run["round_means"] for run in runs.get("MOTIF", ()) if len(run["round_means"]) == len(LIMITS)]
    means = tuple(map(statistics.fmean, zip(*measured, strict=True))) if measured else (tokens,) * len(LIMITS)
    name = "measured mean" if measured else f"assumed mean of {tokens:.0f}"
    typical, most = Lengths(means, prompt), budgets(prompt)
    device = DEVICES[0]
    limits = ", ".join(f"{limit:.0f}" for limit in most.rounds)
    return f"""{results_table(rows(runs), shape, typical)}
{_differences(runs)}
Accuracies in %, with 95 % intervals. With one seed, they are Wilson's intervals over problems (the paper has one run
on 500 and 30 problems). With several seeds, they cover seeds and problems (the half-widths of Student's t over seeds
and of the mean interval over problems, added in quadrature). The paper scores as `published`. GPU hours are estimates
for one seed: training and the evaluation of the row, with the {name} new tokens per round.

## GPU hours, estimated

{cost_table(shape, {name: typical, "all budgets used": most})}

Assumptions: a prompt has {prompt:.0f} tokens, a carried progress {PROGRESS} more; rounds 1 to 3 have budgets of
{limits} tokens; the devices reach {device.flops_share:.0%} of the data sheet's operations per second and
{device.bandwidth_share:.0%} of its bandwidth; each decoding step takes {1000 * device.step_seconds:.0f} ms of Python
and kernel launches, which is most of the time. Nothing here was measured on these devices.

## Memory, estimated

{memory_table(shape)}

4-bit weights, LoRA of rank 64, 8-bit moments, `engine.max_batch_tokens={CACHE}`, without gradient checkpointing.
`train.micro_batch_tokens={CONTEXT}` needs less memory and gives the same gradient.

## GRPO at MOTIF's tokens

A step of MOTIF samples {sum(TURNS["MOTIF"])} completions, a step of GRPO {TURNS["GRPO"][0]}. MOTIF's
{STEPS["MOTIF"]:,} steps sample as many tokens as {equal_steps(typical):,} steps of GRPO at the {name}, or
{equal_steps(most):,} if every round uses its whole budget:

```bash
python -m src.train experiment=paper-grpo train.steps={equal_steps(typical)}
```
"""


def _differences(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """List of the differences between the runs and the recipes; empty if there are none."""
    lines = [
        f"- {policy}, seed {run['seed']}: {one}"
        for policy, found in runs.items()
        for run in found
        for one in run["differences"]
    ]
    heading = "\n**These runs differ from the paper's recipes**, so their results are no reproduction:\n\n"
    return heading + "\n".join(lines) + "\n" if lines else ""


def _percent(value: Interval | None) -> str:
    if value is None:
        return "-"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * number for number in (value.estimate, value.low, value.high)))


def main() -> None:
    """Write ``table.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="run directories of paper-motif and paper-grpo")
    parser.add_argument(
        "--allow-differences",
        action="store_true",
        help="accept runs that differ from the paper's recipes, and list the differences below the table",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write table.md")
    parser.add_argument("--prompt", type=float, default=250, help="assumed tokens of a prompt without a progress")
    parser.add_argument("--tokens", type=float, default=350, help="assumed mean new tokens of a round, without runs")
    given = parser.parse_args()
    try:
        write_text(
            given.out / "table.md", document(read(given.runs, given.allow_differences), given.prompt, given.tokens)
        )
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
