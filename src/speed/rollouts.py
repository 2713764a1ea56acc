"""Rollouts of a training step, by this project's engine and by others, at equal tokens."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

from src.models.policy import Policy
from src.speed.base import Measured, Workbench, comparison, span
from src.speed.generating import GENERATE, Request, generate, others, own_ways, random_prompt
from src.speed.settings import Measuring
from src.speed.timing import alternate

BATCH = 64
"""Rows of a case, and of ``skewed`` those that ``generate`` writes at once."""

ABOUT = {
    "group": "rows from one prompt (the first round)",
    "mixed": "rows from different prompts (a later round)",
    "skewed": "rows of very different lengths from one prompt; generate takes a quarter at a time, each to its longest",
    "large": "rows from one prompt at once (small models)",
}


def measure(bench: Workbench) -> Measured:
    """Seconds and tokens a second of each case."""
    policy = bench.sampler()
    ways, notes = own_ways(bench, policy)
    more, missing = others(bench)
    cases = requests(bench.settings, policy, random.Random(bench.seed))
    timed = {}
    for name in bench.settings.cases:
        case = cases[name]
        rows = len(case) if name != "skewed" else bench.settings.at_most(BATCH)
        run = {GENERATE: partial(generate, policy, case, rows)}
        run |= {way: partial(call, case) for way, call in {**ways, **more}.items()}
        timed[name] = alternate(run, bench.settings.repeats, bench.settings.warmup)
    table, numbers = comparison("Rollouts", timed, GENERATE)
    described = [f"{name}: {size(cases[name])}; {ABOUT[name]}" for name in bench.settings.cases]
    return Measured(
        "Sampling at temperature 1 from the full distribution (generate: top_k=0); prompts are random tokens, and no "
        "token ends a row, so that all ways write the same number.",
        [table],
        [*described, *notes, *missing],
        {"ways": numbers},
    )


def requests(settings: Measuring, policy: Policy, rng: random.Random) -> Mapping[str, list[Request]]:
    """The requests of every case. With ``engine.max_batch_tokens`` as it is, all rows of ``skewed`` fit at once, so
    that knowing their lengths beforehand is no help to the engine."""

    def prompt(tokens: int) -> tuple[int, ...]:
        return random_prompt(rng, policy, settings.at_most(tokens))

    rows, new = settings.at_most(BATCH), settings.at_most(settings.new_tokens)
    one = prompt(settings.prompt_tokens)
    many = 4 * rows
    return {
        "group": [Request(one, new)] * rows,
        "mixed": [Request(prompt(rng.randint(250, 340)), new) for _ in range(settings.at_most(32))],
        "skewed": [Request(one, skewed_length(rng, new)) for _ in range(many)],
        "large": [Request(one, new)] * many,
    }


def skewed_length(rng: random.Random, longest: int) -> int:
    """A lognormal number of tokens, cut at ``longest``: 28 in the mean of 128."""
    return max(1, min(longest, round(rng.lognormvariate(2.85, 1.05) * longest / 128)))


def size(case: list[Request]) -> str:
    """Rows, and their lengths."""
    prompts, new = ([len(request.prompt) for request in case], [request.new for request in case])
    return f"{len(case)} rows, prompts of {span(prompts)}, {span(new)} new tokens (mean {sum(new) / len(new):.0f})"
