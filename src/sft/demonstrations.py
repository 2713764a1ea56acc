"""Worked examples that teach the embedded model the protocol: skill without strategy.

A demonstration is one turn of a simulated multi-round chain sum. Its arithmetic is always right; its *strategy* is left
to chance: how many operations a round works off, and whether it reasons at all or blurts out a guess. What to prefer is
deliberately not in the data, so it is what reinforcement learning has to find.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from pydantic import Field

from src.settings import Section

QUESTION = "State the final answer to the following arithmetic problem: {expression} ="
"""The question's wording in reasoning-gym's ``chain_sum`` (a test holds the two together)."""


@dataclass(frozen=True)
class Demonstration:
    """One turn to imitate: what the model is asked, what it was told before, and what it writes."""

    question: str
    round: int  # 1-based
    final: bool  # told that this is the last round
    carry: str  # the carry rule that the prompt is made with
    before: tuple[str, ...]  # what the rounds before wrote, oldest first
    completion: str


class Demonstrations(Section):
    """How demonstrations are drawn; every probability leaves a strategy to chance."""

    min_terms: int = Field(2, ge=2)
    max_terms: int = Field(12, ge=2)
    max_rounds: int = Field(8, ge=1)
    max_operations: int = Field(5, ge=0)  # worked off in a round that is not the last, at most
    guess: float = Field(0.25, ge=0, le=1)  # chance that a turn answers without reasoning, which ends its chain
    restate: float = Field(0.07, ge=0, le=1)  # chance to show a turn whose progress already holds the final answer
    history: float = Field(0.2, ge=0, le=1)  # chance that a chain carries every progress
    memory: float = Field(0.15, ge=0, le=1)  # … or all that the previous round wrote
    tail: float = Field(0.15, ge=0, le=1)  # … or is one long message, cut into rounds by tokens; else the last answer

    def check(self) -> Iterable[str]:
        if self.min_terms > self.max_terms:
            yield (
                f"demonstrations.min_terms={self.min_terms} must be at most demonstrations.max_terms={self.max_terms}"
            )
        if self.history + self.memory + self.tail > 1:
            yield "demonstrations.history, memory and tail are chances of one draw; their sum must be at most 1"


@dataclass(frozen=True)
class _State:
    """What is left of a chain: a running value, the operations to come, or the stated final answer."""

    value: int
    operations: tuple[tuple[str, int], ...]
    stated: str | None = None

    def text(self) -> str:
        if self.stated is not None:
            return self.stated
        return str(self.value) + "".join(f"{sign}{term}" for sign, term in self.operations)


def _boxed(value: int) -> str:
    return f"\\boxed{{{value}}}"


def _play(state: _State, count: int) -> tuple[str, _State]:
    """Work off ``count`` operations: the reasoning that shows them, and the state after them."""
    value, steps = state.value, [str(state.value)]
    for sign, term in state.operations[:count]:
        value = value + term if sign == "+" else value - term
        steps.append(f"{sign}{term}={value}")
    rest = state.operations[count:]
    return ("".join(steps) if count else ""), _State(value, rest, None if rest else _boxed(value))


def _turn(state: _State, final: bool, rng: random.Random, settings: Demonstrations) -> tuple[str, _State]:
    """One round: the text that it writes, and the state that it hands on."""
    if state.stated is not None:
        reasoning, after = "", state
    elif rng.random() < settings.guess:
        reasoning, after = "", _State(0, (), _boxed(rng.randint(-9, 9)))
    else:
        count = len(state.operations)
        if not final:
            count = min(count, rng.randint(0, settings.max_operations))
        reasoning, after = _play(state, count)
    return f"<reasoning>{reasoning}</reasoning><answer>{after.text()}</answer>", after


def draw(rng: random.Random, settings: Demonstrations, exclude: Collection[str] = frozenset()) -> Demonstration:
    """Simulate a chain over its rounds and return one of its turns; questions in ``exclude`` are never used."""
    while True:
        terms = [rng.randint(0, 9) for _ in range(rng.randint(settings.min_terms, settings.max_terms))]
        signs = [rng.choice("+-") for _ in terms[1:]]
        operations = tuple(zip(signs, terms[1:], strict=True))
        question = QUESTION.format(expression=str(terms[0]) + "".join(f" {sign} {term}" for sign, term in operations))
        if question not in exclude:
            break
    odds = (settings.history, settings.memory, settings.tail)
    carry = rng.choices(("history", "memory", "tail", "answer"), (*odds, 1 - sum(odds)))[0]
    wants_copy = rng.random() < settings.restate
    state, turns = _State(terms[0], operations), []
    before: tuple[str, ...] = ()
    # Every second chain is one whose budget of rounds is short, so that last rounds with work left are common.
    rounds = rng.randint(1, 3 if rng.random() < 0.5 else settings.max_rounds)
    for index in range(1, (1 if carry == "tail" else rounds) + 1):
        final = index == rounds or carry == "tail"
        copying = state.stated is not None
        completion, state = _turn(state, final, rng, settings)
        turns.append((copying, Demonstration(question, index, final, carry, before, completion)))
        before = (*before, completion)
    wanted = [turn for copying, turn in turns if copying == wants_copy]
    return rng.choice(wanted or [turn for _, turn in turns])


def stream(
    seed: int, settings: Demonstrations, exclude: Collection[str] = frozenset()
) -> Callable[[int], list[Demonstration]]:
    """A function that returns the next ``count`` demonstrations of the sequence that ``seed`` fixes."""
    rng = random.Random(seed)
    return lambda count: [draw(rng, settings, exclude) for _ in range(count)]
