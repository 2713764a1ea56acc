"""Time of a whole run on a device, from its settings and assumed lengths of prompts and completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from src.estimating.shape import Shape
from src.estimating.time import Device, learning, writing


@dataclass(frozen=True)
class Assumed:
    """Assumed tokens: of a prompt without a progress, of a carried progress, and the mean of the new tokens of a round,
    if its budget allows them."""

    prompt: float = 250
    progress: float = 300
    tokens: float = 350

    def asked(self, round: int) -> float:
        """Tokens of a round's prompt (1-based)."""
        return self.prompt + (self.progress if round > 1 else 0)

    def new(self, rounds: Any, round: int) -> float:
        """New tokens of a round (1-based) of a strategy."""
        budget = rounds.first_tokens if round == 1 else rounds.later_tokens
        return float(min(self.tokens, budget, max(1, rounds.context - self.asked(round))))

    def __str__(self) -> str:
        return (
            f"Assumed: prompts of {self.prompt:g} tokens, {self.progress:g} more with a progress, {self.tokens:g} new "
            "tokens a round where the budget allows. Nothing was measured on this device."
        )


def training_seconds(settings: Any, shape: Shape, device: Device, assumed: Assumed | None = None) -> float:
    """Seconds of all training steps: generating the rounds one after the other, and the updates.

    ``settings`` are those of ``src.train``. A reward that needs no later rounds samples the first only.
    """
    assumed, rounds, model = assumed or Assumed(), settings.rounds, settings.model
    turns, seconds, learned = float(settings.train.problems), 0.0, 0.0
    for number, width in enumerate(rounds.widths[: None if settings.reward.looks_ahead else 1], 1):
        turns *= width
        asked, new = assumed.asked(number), assumed.new(rounds, number)
        seconds += writing(shape, model, device, turns, asked, new, settings.engine.cache_tokens)
        if number == 1 or type(settings.credit).__name__ != "First":
            learned += settings.algorithm.iterations * learning(shape, model, device, turns, asked, new)
    return float(settings.train.steps * (seconds + learned))


def evaluation_seconds(
    settings: Any, shape: Shape, device: Device, rounds: int, problems: int, assumed: Assumed | None = None
) -> float:
    """Seconds of the answers to ``problems`` problems of one test split in so many rounds."""
    assumed, turns = assumed or Assumed(), float(problems * settings.evaluation.samples)
    cache = settings.engine.cache_tokens
    return sum(
        writing(
            shape, settings.model, device, turns, assumed.asked(number), assumed.new(settings.rounds, number), cache
        )
        for number in range(1, rounds + 1)
    )
