"""A whole training step of the configured model, rounds and reward, phase by phase."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from src import config as configuration
from src.benchmarking.base import Measured, Table, Workbench
from src.collecting import order
from src.engines.base import Engine, OnToken
from src.learner import Learner
from src.records import Children, Row, Turn
from src.rollout import grow

MAX_GRAD_NORM = 1.0


@dataclass
class Clocked:
    """An engine that notes when the last turn of each round was done."""

    engine: Engine
    done: dict[int, float]

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        def noted(turn: Turn) -> Sequence[Turn]:
            self.done[turn.round] = time.perf_counter()
            return children(turn)

        return self.engine.generate(turns, noted, on_token)


def measure(bench: Workbench) -> Measured:
    """Seconds of each phase; every repeat is a step on problems of its own."""
    settings = bench.settings
    strategy, reward, algorithm, benchmark = map(bench.build, ("rounds", "reward", "algorithm", "benchmark"))
    credit = configuration.credit_rule(bench.values["reward"]["credit"])
    scorer = bench.build("verifier").scorer(benchmark.score)
    policy = bench.policy(bench.model.lora)
    count = settings.at_most(settings.problems)
    problems = bench.problems(benchmark, count)
    configuration.check_lengths(strategy, problems, policy.codec)
    optimizer, schedule = bench.build("optimizer").build(policy.parameters(), settings.repeats)
    learner = Learner(policy, algorithm, optimizer, schedule, settings.micro_batch_tokens, MAX_GRAD_NORM)
    clocked = Clocked(bench.engine(policy), {})
    depth = None if reward.looks_ahead else 1
    steps: list[dict[str, Any]] = []
    for step in range(-settings.warmup, settings.repeats):
        clocked.done.clear()
        chosen = [problems[index] for index in order(len(problems), bench.seed, step + settings.warmup, count)]
        begin = time.perf_counter()
        trees = grow(clocked, strategy, chosen, policy.codec, (bench.seed, "benchmark", step), depth)
        grown = time.perf_counter()
        scores = reward.score(trees, scorer)
        rows = credit.rows(trees, scores, algorithm.advantages).rows
        scored = time.perf_counter()
        learner.update(all_learn(rows))
        end = time.perf_counter()
        if step >= 0:
            turns = [turn for tree in trees for turn in tree.turns]
            steps.append(
                {
                    "seconds": {
                        **by_round(begin, clocked.done, grown),
                        "reward and credit": scored - grown,
                        "training": end - scored,
                    },
                    "tokens": {f"rollout, round {n}": _written(turns, n) for n in sorted(clocked.done)}
                    | {"training": sum(len(row.completion) for row in rows)},
                }
            )
    return Measured(
        f"{count} problems of {benchmark.name}, {strategy.n} rounds with {' x '.join(map(str, strategy.widths))} "
        "children; every repeat is a step of its own.",
        [Table("A training step by phase", HEADINGS, table(steps))],
        [
            "rounds overlap, since a turn is continued as soon as it is done: a round's seconds are those from the "
            "last turn of the round before to its own last turn",
            "training is that of a step in which every row has an advantage; rows without one are skipped, so a real "
            "step can only be faster",
        ],
        {"steps": steps},
    )


HEADINGS = ("phase", "seconds", "smallest to largest", "share", "tokens")


def all_learn(rows: Sequence[Row]) -> list[Row]:
    """The rows with advantages 1 and -1 in turns, so that none is skipped."""
    return [replace(row, advantage=-1.0 if index % 2 else 1.0) for index, row in enumerate(rows)]


def by_round(begin: float, done: Mapping[int, float], end: float) -> dict[str, float]:
    """Seconds from the last turn of the round before to the last of each round; what is left belongs to the last."""
    result = {}
    last = max(done)
    for number in sorted(done):
        now = end if number == last else max(begin, done[number])
        result[f"rollout, round {number}"] = now - begin
        begin = now
    return result


def table(steps: Sequence[Mapping[str, Mapping[str, float]]]) -> list[list[str]]:
    """Median seconds of each phase, and its share of the median step; the whole step at last."""
    phases = list(dict.fromkeys(phase for step in steps for phase in step["seconds"]))
    whole = statistics.median(sum(step["seconds"].values()) for step in steps)
    rows = []
    for phase in phases:
        seconds = [step["seconds"].get(phase, 0.0) for step in steps]
        tokens = [step["tokens"][phase] for step in steps if phase in step["tokens"]]
        rows.append(_row(phase, seconds, whole, f"{statistics.median(tokens):.0f}" if tokens else ""))
    return [*rows, _row("whole step", [sum(step["seconds"].values()) for step in steps], whole, "")]


def _row(phase: str, seconds: Sequence[float], whole: float, tokens: str) -> list[str]:
    middle = statistics.median(seconds)
    spread = f"{min(seconds):.3g} to {max(seconds):.3g}"
    return [phase, f"{middle:.3g}", spread, f"{100 * middle / whole:.0f} %", tokens]


def _written(turns: Sequence[Turn], number: int) -> int:
    return sum(len(turn.completion) for turn in turns if turn.round == number)
