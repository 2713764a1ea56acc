"""Time of a whole run on a device, from its settings and assumed lengths of prompts and completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from src.estimating.shape import Shape
from src.estimating.time import Device, learning, writing
from src.rounds.base import Strategy


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

    def new(self, rounds: Strategy, round: int) -> float:
        """New tokens of a turn in a round (1-based); the mean over the strategies that grow a step's problems."""
        parts = [(share * one.turns[round - 1].sampled, one) for share, one in rounds.shares if len(one.turns) >= round]
        total = sum(turns for turns, _ in parts)
        return sum(turns / total * self._new(one, round) for turns, one in parts)

    def _new(self, rounds: Any, round: int) -> float:
        budget = rounds.first_tokens if round == 1 else rounds.later_tokens
        return float(min(self.tokens, budget, max(1, rounds.context - self.asked(round))))

    def __str__(self) -> str:
        return (
            f"Assumed: prompts of {self.prompt:g} tokens, {self.progress:g} more with a progress, {self.tokens:g} new "
            "tokens a round where the budget allows. Nothing was measured on this device."
        )


def training_seconds(settings: Any, shape: Shape, device: Device, assumed: Assumed | None = None) -> float:
    """Seconds of all training steps: generating the rounds one after the other, and the updates.

    ``settings`` are those of ``src.train``. A reward that needs no later rounds samples the first only. Probes are
    sampled, but not trained on.
    """
    assumed, rounds, model = assumed or Assumed(), settings.rounds, settings.model
    problems, seconds, learned = settings.train.problems, 0.0, 0.0
    for number, count in enumerate(rounds.turns[: None if settings.reward.looks_ahead else 1], 1):
        asked, new = assumed.asked(number), assumed.new(rounds, number)
        sampled, trained = problems * count.sampled, problems * count.turns
        seconds += writing(shape, model, device, sampled, asked, new, settings.engine.cache_tokens)
        if number == 1 or settings.credit.learns == "all":
            learned += settings.algorithm.iterations * learning(shape, model, device, trained, asked, new)
    return float(settings.train.steps * (seconds + learned))


def evaluation_seconds(
    settings: Any, shape: Shape, device: Device, chains: Strategy, problems: int, assumed: Assumed | None = None
) -> float:
    """Seconds of the answers to ``problems`` problems of one split; ``chains`` is the strategy that answers them."""
    assumed, cache = assumed or Assumed(), settings.engine.cache_tokens
    rollouts = problems * (chains.samples if chains.joins else 1)
    rounds = enumerate(chains.turns, 1)
    turns = [(rollouts * count.sampled, assumed.asked(one), assumed.new(chains, one)) for one, count in rounds]
    return sum(writing(shape, settings.model, device, *each, cache) for each in turns)
