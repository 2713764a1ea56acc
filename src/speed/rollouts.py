"""Rollouts of a training step with this project's engine and with others, at equal numbers of tokens."""

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
"""Rows of a case; for ``skewed``, the batch size of ``generate``."""

ABOUT = {
    "group": "rows from one prompt (the first round)",
    "mixed": "rows from different prompts (a later round)",
    "skewed": "rows of very different lengths from one prompt; generate runs four batches, each to its longest row",
    "large": "rows from one prompt in one batch (small models)",
}


def measure(bench: Workbench) -> Measured:
    """Seconds and tokens per second of each case."""
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
        "Sampling at temperature 1 from the full distribution (generate: top_k=0). Prompts are random tokens. No token "
        "ends a row, so that all methods generate the same number of tokens.",
        [table],
        [*described, *notes, *missing],
        {"ways": numbers},
    )


def requests(settings: Measuring, policy: Policy, rng: random.Random) -> Mapping[str, list[Request]]:
    """The requests of every case.

    With the default ``engine.max_batch_tokens``, all rows of ``skewed`` fit into one batch, so that the engine has no
    advantage from knowing their lengths.
    """

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
    """A lognormal number of tokens, at most ``longest``; the mean is 28 if ``longest`` is 128."""
    return max(1, min(longest, round(rng.lognormvariate(2.85, 1.05) * longest / 128)))


def size(case: list[Request]) -> str:
    """Description of a case: its number of rows and their lengths."""
    prompts, new = ([len(request.prompt) for request in case], [request.new for request in case])
    return f"{len(case)} rows, prompts of {span(prompts)}, {span(new)} new tokens (mean {sum(new) / len(new):.0f})"
