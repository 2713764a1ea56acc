"""Scaling of a training step: its seconds as m, k, n, the number of problems and the tokens per turn double."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from src.reporting.plots import save
from src.run import check_lengths
from src.speed.base import Measured, Table, Unending, Workbench
from src.speed.plots import scaling_plot
from src.speed.stepping import Step, Stepper
from src.speed.timing import alternate, speedup
from src.types import Problem

DOUBLINGS = 2


@dataclass(frozen=True)
class Point:
    """Size of the rollouts of a training step."""

    m: int
    k: int
    n: int
    problems: int
    tokens: int

    @property
    def turns(self) -> int:
        """Turns of all trees: m first responses per problem, and m x k turns in every later round."""
        return self.problems * self.m * (1 + self.k * (self.n - 1))


FACTORS = ("m", "k", "n", "problems", "tokens")
START = Point(m=4, k=2, n=2, problems=2, tokens=32)


def points(start: Point) -> dict[str, Point]:
    """The start, and the start with one factor doubled once, twice …"""
    found = {"start": start}
    for factor in FACTORS:
        for power in range(1, DOUBLINGS + 1):
            size = getattr(start, factor) * 2**power
            found[f"{factor} = {size}"] = replace(start, **{factor: size})
    return found


def measure(bench: Workbench) -> Measured:
    """Seconds of every point; repeats of all points alternate."""
    settings, policy = bench.settings, bench.policy(bench.model.lora)
    engine, strategy = bench.engine(Unending(policy)), bench.run.rounds
    most = START.problems * 2**DOUBLINGS
    problems = bench.problems(most)[:most]
    check_lengths(strategy, problems, policy.codec)
    start = replace(START, **{factor: settings.at_most(getattr(START, factor)) for factor in FACTORS})
    plan = points(start)
    stepper = Stepper(bench, policy)
    steps: dict[str, list[Step]] = {name: [] for name in plan}

    def step(name: str, point: Point) -> Callable[[], int]:
        rounds = strategy.replace(
            n=point.n,
            responses=point.m,
            trajectories=point.k,
            branching=None,
            search=None,
            probes=0,
            ending="fixed",
            stop_at_answer=False,
            first_tokens=point.tokens,
            later_tokens=point.tokens,
        )
        chosen: list[Problem] = problems[: point.problems]

        def run() -> int:
            steps[name].append(stepper.run(engine, rounds, chosen, (bench.seed, "scaling", name)))
            return steps[name][-1].written

        return run

    ways = {name: step(name, point) for name, point in plan.items()}
    alternate(ways, settings.repeats, settings.warmup, equal=False)
    counted = {name: taken[settings.warmup :] for name, taken in steps.items()}
    rollouts = {name: [one.rollout_seconds for one in taken] for name, taken in counted.items()}
    whole = {name: [sum(one.seconds.values()) for one in taken] for name, taken in counted.items()}
    seconds = {name: statistics.median(times) for name, times in whole.items()}
    figure = scaling_plot({factor: course(factor, start, plan, seconds) for factor in FACTORS})
    for suffix in ("png", "svg"):
        save(figure, bench.directory / f"scaling.{suffix}")
    rows = [
        [
            name,
            str(point.turns),
            str(counted[name][-1].written),
            f"{statistics.median(rollouts[name]):.3g}",
            _growth(name, plan, rollouts),
            f"{seconds[name]:.3g}",
            _growth(name, plan, whole),
        ]
        for name, point in plan.items()
    ]
    numbers: list[Any] = [
        {"point": name, **vars(point), "turns": point.turns, "tokens_written": counted[name][-1].written}
        | {"seconds": whole[name], "rollout_seconds": rollouts[name]}
        | {"steps": [asdict(one) for one in counted[name]]}
        for name, point in plan.items()
    ]
    return Measured(
        f"A training step with m={start.m} first responses, k={start.k} continuations of each, n={start.n} rounds, "
        f"{start.problems} problems of {bench.run.benchmark.name} and {start.tokens} new tokens per turn; then with "
        "one of the five doubled once and twice. No token ends a turn.",
        [Table("Scaling", HEADINGS, rows)],
        ["scaling.png and scaling.svg plot seconds against multiples of the start, one line per factor"],
        {"points": numbers},
    )


HEADINGS = ("size", "turns", "tokens", "rollouts, seconds", "by doubling", "step, seconds", "by doubling")


def before(name: str, plan: Mapping[str, Point]) -> str | None:
    """The point with one factor half as large as in ``name``; None for the start."""
    halves = [
        replace(plan[name], **{factor: getattr(plan[name], factor) // 2})
        for factor in FACTORS
        if getattr(plan[name], factor) % 2 == 0
    ]
    return next((other for other, point in plan.items() if point in halves), None)


def _growth(name: str, plan: Mapping[str, Point], seconds: Mapping[str, Sequence[float]]) -> str:
    """Ratio of seconds after and before the factor was doubled, with the interval of ``timing.speedup``."""
    half = before(name, plan)
    if half is None:
        return ""
    ratio = speedup(seconds[name], seconds[half])
    return f"x {ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def course(
    factor: str, start: Point, plan: Mapping[str, Point], seconds: Mapping[str, float]
) -> list[tuple[float, float]]:
    """The line of a factor: pairs of its multiple of the start (1, 2, 4 …) and seconds."""
    base = getattr(start, factor)
    others = {name for name in FACTORS if name != factor}
    along = {
        name: point for name, point in plan.items() if all(getattr(point, one) == getattr(start, one) for one in others)
    }
    return [(getattr(point, factor) / base, seconds[name]) for name, point in along.items()]
