"""A whole training step of the configured model, rounds and reward, by engine and by phase."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict

from src.run import check_lengths
from src.speed.base import Measured, Table, Workbench, comparison
from src.speed.generating import GENERATE, Generating, own_engines
from src.speed.stepping import Step, Stepper
from src.speed.timing import Timed, alternate
from src.training.trainer import order
from src.types import Engine


def measure(bench: Workbench) -> Measured:
    """Seconds of a step with each engine, and of each phase. Every repeat uses different problems."""
    settings, benchmark = bench.settings, bench.run.benchmark
    policy = bench.policy(bench.model.lora)
    strategy = bench.run.rounds
    strategy = strategy.replace(
        first_tokens=min(strategy.first_tokens, settings.new_tokens),
        later_tokens=min(strategy.later_tokens, settings.new_tokens),
    )
    count = settings.at_most(settings.problems)
    problems = bench.problems(count)
    check_lengths(strategy, problems, policy.codec)
    stepper = Stepper(bench, policy)
    engines, notes = own_engines(bench, policy)
    ways: dict[str, Engine] = {GENERATE: Generating(policy), **engines}
    steps: dict[str, list[Step]] = {name: [] for name in ways}

    def step(name: str, engine: Engine) -> Callable[[], int]:
        def run() -> int:
            number = len(steps[name])
            chosen = [problems[index] for index in order(len(problems), bench.seed, number, count)]
            steps[name].append(stepper.run(engine, strategy, chosen, (bench.seed, "benchmark", number)))
            return steps[name][-1].written

        return run

    whole = alternate(
        {name: step(name, engine) for name, engine in ways.items()}, settings.repeats, settings.warmup, equal=False
    )
    counted = {name: taken[settings.warmup :] for name, taken in steps.items()}
    rollouts = {
        name: Timed([one.rollout_seconds for one in taken], [one.written for one in taken])
        for name, taken in counted.items()
    }
    compared, numbers = comparison("A training step", {"rollouts": rollouts, "whole step": whole}, GENERATE)
    phases = [[name, *row] for name, taken in counted.items() for row in table(taken)]
    return Measured(
        f"{count} problems of {benchmark.name}, {strategy.n} rounds with {' x '.join(map(str, strategy.widths))} "
        f"children and at most {strategy.first_tokens} and {strategy.later_tokens} new tokens. Every repeat is a step "
        "on different problems from the same weights. Methods differ in the engine; generate runs one batch per round.",
        [compared, Table("By phase", HEADINGS, phases)],
        [
            *notes,
            "tokens/s counts generated tokens, and speedups are per token, because methods sample different tokens and "
            "so slightly different numbers of them",
            "rounds overlap, because a turn is continued as soon as it is done: the seconds of a round are from the "
            "last turn of the round before to its own last turn",
            "in training every row has an advantage here; a real step skips rows whose advantage is 0, so it can only "
            "be faster",
        ],
        {"ways": numbers, "steps": {name: [asdict(one) for one in taken] for name, taken in counted.items()}},
    )


HEADINGS = ("method", "phase", "seconds", "smallest to largest", "share", "tokens")


def table(steps: Sequence[Step]) -> list[list[str]]:
    """Median seconds of each phase and its share of the median step; the last row is the whole step."""
    phases = list(dict.fromkeys(phase for step in steps for phase in step.seconds))
    whole = statistics.median(sum(step.seconds.values()) for step in steps)
    rows = []
    for phase in phases:
        seconds = [step.seconds.get(phase, 0.0) for step in steps]
        tokens = [step.tokens[phase] for step in steps if phase in step.tokens]
        rows.append(_row(phase, seconds, whole, f"{statistics.median(tokens):.0f}" if tokens else ""))
    return [*rows, _row("whole step", [sum(step.seconds.values()) for step in steps], whole, "")]


def _row(phase: str, seconds: Sequence[float], whole: float, tokens: str) -> list[str]:
    middle = statistics.median(seconds)
    spread = f"{min(seconds):.3g} to {max(seconds):.3g}"
    return [phase, f"{middle:.3g}", spread, f"{100 * middle / whole:.0f} %", tokens]
