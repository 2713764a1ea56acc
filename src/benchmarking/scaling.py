"""How the seconds of a step's rollouts grow as m, k, n, the problems and the tokens of a round double."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from src import config as configuration
from src.benchmarking.base import Measured, Table, Unending, Workbench
from src.benchmarking.plots import scaling_plot
from src.benchmarking.timing import Timed, alternate
from src.records import Problem
from src.reporting.plots import save
from src.rollout import grow

DOUBLINGS = 2


@dataclass(frozen=True)
class Point:
    """The size of a step's rollouts."""

    m: int
    k: int
    n: int
    problems: int
    tokens: int

    @property
    def turns(self) -> int:
        """Of all trees: m first responses, and m x k in every round after."""
        return self.problems * self.m * (1 + self.k * (self.n - 1))


FACTORS = ("m", "k", "n", "problems", "tokens")
START = Point(m=4, k=2, n=2, problems=2, tokens=16)


def points(start: Point) -> dict[str, Point]:
    """The start, and it with one factor doubled once, twice …"""
    found = {"start": start}
    for factor in FACTORS:
        for power in range(1, DOUBLINGS + 1):
            size = getattr(start, factor) * 2**power
            found[f"{factor} = {size}"] = replace(start, **{factor: size})
    return found


def measure(bench: Workbench) -> Measured:
    """Seconds of every point, all points in turns."""
    settings, policy = bench.settings, bench.policy(None)
    engine, strategy, benchmark = bench.engine(Unending(policy)), bench.build("rounds"), bench.build("benchmark")
    most = START.problems * 2**DOUBLINGS
    problems = bench.problems(benchmark, most)[:most]
    configuration.check_lengths(strategy, problems, policy.codec)
    start = replace(START, **{factor: settings.at_most(getattr(START, factor)) for factor in FACTORS})
    plan = points(start)

    def rollouts(name: str, point: Point) -> Callable[[], int]:
        rounds = replace(
            strategy,
            n=point.n,
            responses=point.m,
            trajectories=point.k,
            branching=None,
            search=None,
            probes=0,
            ending="fixed",
            first_tokens=point.tokens,
            later_tokens=point.tokens,
        )
        chosen: list[Problem] = problems[: point.problems]
        key = (bench.seed, "scaling", name)
        return lambda: sum(tree.tokens for tree in grow(engine, rounds, chosen, policy.codec, key))

    ways = {name: rollouts(name, point) for name, point in plan.items()}
    timed = alternate(ways, settings.repeats, settings.warmup, equal=False)
    figure = scaling_plot({factor: course(factor, start, plan, timed) for factor in FACTORS})
    for suffix in ("png", "svg"):
        save(figure, bench.run / f"scaling.{suffix}")
    rows = [
        [name, str(plan[name].turns), str(way.tokens), f"{way.median:.3g}", f"{way.median / timed['start'].median:.2f}"]
        for name, way in timed.items()
    ]
    numbers: list[Any] = [
        {"point": name, **vars(plan[name]), "turns": plan[name].turns, "tokens_written": way.tokens}
        | {"seconds": list(way.seconds), "median_seconds": way.median}
        for name, way in timed.items()
    ]
    return Measured(
        f"Rollouts of a step with m={start.m} first responses, k={start.k} continuations of each, n={start.n} rounds, "
        f"{start.problems} problems of {benchmark.name} and {start.tokens} new tokens a turn; then one of the five "
        "doubled, and doubled again. No token ends a turn.",
        [Table("Scaling", ("what", "turns", "tokens", "seconds", "times the start's"), rows)],
        ["scaling.png and scaling.svg show the same: seconds against a start's multiple, a line for each factor"],
        {"points": numbers},
    )


def course(factor: str, start: Point, plan: dict[str, Point], timed: dict[str, Timed]) -> list[tuple[float, float]]:
    """How many times a factor's start (1, 2, 4 …), and median seconds."""
    base = getattr(start, factor)
    others = {name for name in FACTORS if name != factor}
    along = {
        name: point for name, point in plan.items() if all(getattr(point, one) == getattr(start, one) for one in others)
    }
    return [(getattr(point, factor) / base, timed[name].median) for name, point in along.items()]
