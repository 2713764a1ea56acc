"""MOTIF's published call pattern, one ``generate`` call per prompt, against whole rounds as one batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from src.speed.base import Measured, Unending, Workbench, comparison, span
from src.speed.generating import Request, generate, own_engines, random_prompt
from src.speed.timing import alternate
from src.types import Engine, Sampling, Turn

RESPONSES, TRAJECTORIES, LATER_ROUNDS = 8, 4, 2
"""m, k and n - 1 of MOTIF's recipe (arXiv 2507.02851). Its code makes a separate ``generate`` call for each of the
m x k x (n - 1) completions."""

ONE_BY_ONE, BATCHED = "generate, one by one", "generate, a round at once"

Rounds = Sequence[Sequence[Request]]
"""The requests of each later round; request i of a round continues request i of the round before."""

LONG = (250, 340)
"""Minimum and maximum length of a later round's prompt in tokens: a question and a progress."""


def measure(bench: Workbench) -> Measured:
    """Seconds for the later rounds of a problem, with short and with long prompts."""
    policy, settings = bench.sampler(), bench.settings
    rng = random.Random(bench.seed)
    m, k, rounds = (settings.at_most(size) for size in (RESPONSES, TRAJECTORIES, LATER_ROUNDS))
    new, short = settings.at_most(settings.new_tokens), settings.at_most(settings.prompt_tokens)
    question = random_prompt(rng, policy, short)

    def long_prompt() -> tuple[int, ...]:
        return question + random_prompt(rng, policy, max(1, settings.at_most(rng.randint(*LONG)) - short))

    def requests(prompt: Callable[[], tuple[int, ...]]) -> Rounds:
        second = [Request(one, new) for one in [prompt() for _ in range(m)] for _ in range(k)]
        return [second, *([Request(prompt(), new) for _ in range(m * k)] for _ in range(rounds - 1))]

    cases = [requests(prompt) for prompt in (lambda: random_prompt(rng, policy, short), long_prompt)]
    engines, notes = own_engines(bench, Unending(policy))

    def ways(asked: Rounds) -> dict[str, Callable[[], int]]:
        return {
            ONE_BY_ONE: lambda: sum(generate(policy, one, 1) for one in asked),
            BATCHED: lambda: sum(generate(policy, one, len(one)) for one in asked),
            **{f"{name}, a round at once": partial(grown, engine, asked) for name, engine in engines.items()},
        }

    timed = {
        f"prompts of {span([len(one.prompt) for some in asked for one in some])} tokens": alternate(
            ways(asked), settings.repeats, settings.warmup
        )
        for asked in cases
    }
    table, numbers = comparison("The published call pattern against batches", timed, ONE_BY_ONE)
    about = (
        f"{m} responses x {k} trajectories x {rounds} later rounds of one problem, {new} new tokens each. Long prompts "
        f"start with the same {short} tokens, the question. The published code makes {m * k * rounds} calls of "
        f"generate one after another; batched by round there are {rounds}."
    )
    return Measured(about, [table], notes, {"ways": numbers, "calls": m * k * rounds, "batches": rounds})


def grown(engine: Engine, rounds: Rounds) -> int:
    """Generate all rounds with the engine, which continues each turn when it is done. Returns the number of tokens."""

    def turn(number: int, index: int) -> Turn:
        request = rounds[number][index]
        path = (index, *[0] * number)
        return Turn(path, request.prompt, Sampling(request.new), stream=number * len(rounds[0]) + index)

    def children(done: Turn) -> list[Turn]:
        return [turn(done.round, done.path[0])] if done.round < len(rounds) else []

    roots = [turn(0, index) for index in range(len(rounds[0]))]
    return sum(len(written.completion) for written in engine.generate(roots, children))
