"""Synthetic demonstrations for the embedded model: correct arithmetic, random strategy.

A demonstration is one turn of a simulated multi-round chain sum. Its arithmetic is always correct. Its *strategy* is
random: how many operations a round computes, and whether it reasons at all or guesses. The data prefers no strategy, so
that reinforcement learning has to find a good one.

With ``demonstrations.drafts``, some demonstrations read several drafts of one question. Which draft they go on from is
random, too: the most frequent, any, or none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from pydantic import Field

from src.settings import Section

QUESTION = "State the final answer to the following arithmetic problem: {expression} ="
"""The wording of reasoning-gym's ``chain_sum`` (tests/unit/benchmarks/test_reasoning_gym.py checks that they agree)."""


@dataclass(frozen=True)
class Demonstration:
    """One turn to imitate: the question, the texts of the rounds before, and the completion."""

    question: str
    round: int  # 1-based
    final: bool  # whether the prompt says that this is the last round
    carry: str  # carry rule of the prompt
    before: tuple[str, ...]  # texts of the rounds before, oldest first; or of drafts of one round
    completion: str


class Demonstrations(Section):
    """Distribution of the demonstrations: problem sizes, and the probabilities of each strategy."""

    min_terms: int = Field(2, ge=2)
    max_terms: int = Field(12, ge=2)
    max_rounds: int = Field(8, ge=1)
    max_operations: int = Field(5, ge=0)  # maximum number of operations in a round before the last
    guess: float = Field(0.25, ge=0, le=1)  # probability that a turn guesses without reasoning, which ends its chain
    restate: float = Field(0.07, ge=0, le=1)  # probability of a turn whose carried progress holds the final answer
    history: float = Field(0.2, ge=0, le=1)  # probability of the carry rule `history` for a chain
    memory: float = Field(0.15, ge=0, le=1)  # … of `memory`
    tail: float = Field(0.15, ge=0, le=1)  # … of `tail`, i.e. one long message; otherwise the rule is `answer`
    drafts: float = Field(0, ge=0, le=1)  # probability of a turn that reads several drafts, instead of a chain's turn
    max_drafts: int = Field(4, ge=2)  # maximum number of drafts that it reads

    def check(self) -> Iterable[str]:
        if self.min_terms > self.max_terms:
            yield (
                f"demonstrations.min_terms={self.min_terms} must be at most demonstrations.max_terms={self.max_terms}"
            )
        if self.history + self.memory + self.tail > 1:
            yield (
                f"demonstrations.history={self.history}, demonstrations.memory={self.memory} and demonstrations.tail="
                f"{self.tail} are probabilities whose sum must be at most 1"
            )


@dataclass(frozen=True)
class _State:
    """State of a chain sum: the running total and the remaining operations, or the stated final answer."""

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
    """Compute ``count`` operations. Returns the reasoning text and the next state."""
    value, steps = state.value, [str(state.value)]
    for sign, term in state.operations[:count]:
        value = value + term if sign == "+" else value - term
        steps.append(f"{sign}{term}={value}")
    rest = state.operations[count:]
    return ("".join(steps) if count else ""), _State(value, rest, None if rest else _boxed(value))


def _turn(state: _State, final: bool, rng: random.Random, settings: Demonstrations) -> tuple[str, _State]:
    """Simulate one round. Returns its text and the next state."""
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
    """Simulate a chain over its rounds and return one of its turns. Questions in ``exclude`` are never used."""
    while True:
        terms = [rng.randint(0, 9) for _ in range(rng.randint(settings.min_terms, settings.max_terms))]
        signs = [rng.choice("+-") for _ in terms[1:]]
        operations = tuple(zip(signs, terms[1:], strict=True))
        question = QUESTION.format(expression=str(terms[0]) + "".join(f" {sign} {term}" for sign, term in operations))
        if question not in exclude:
            break
    if settings.drafts and rng.random() < settings.drafts:
        return _reading(question, _State(terms[0], operations), rng, settings)
    odds = (settings.history, settings.memory, settings.tail)
    carry = rng.choices(("history", "memory", "tail", "answer"), (*odds, 1 - sum(odds)))[0]
    wants_copy = rng.random() < settings.restate
    state, turns = _State(terms[0], operations), []
    before: tuple[str, ...] = ()
    # Half of the chains have at most 3 rounds, so that last rounds with many remaining operations are common.
    rounds = rng.randint(1, 3 if rng.random() < 0.5 else settings.max_rounds)
    for index in range(1, (1 if carry == "tail" else rounds) + 1):
        final = index == rounds or carry == "tail"
        copying = state.stated is not None
        completion, state = _turn(state, final, rng, settings)
        turns.append((copying, Demonstration(question, index, final, carry, before, completion)))
        before = (*before, completion)
    wanted = [turn for copying, turn in turns if copying == wants_copy]
    return rng.choice(wanted or [turn for _, turn in turns])


def _reading(question: str, start: _State, rng: random.Random, settings: Demonstrations) -> Demonstration:
    """Simulate drafts of one round and a turn that reads them. The share of drafts that guess is random."""
    answered, final = rng.random() < 0.5, rng.random() < 0.75
    skill = settings.replace(guess=rng.random())
    drafts = [_turn(start, answered, rng, skill) for _ in range(rng.randint(2, settings.max_drafts))]
    states = [state for _, state in drafts]
    counts = Counter(states)
    common = [state for state in counts if counts[state] == max(counts.values())]
    chosen = rng.choice((rng.choice(common), rng.choice(states), start))
    completion, _ = _turn(chosen, final, rng, settings)
    # drafts are quoted as the rule `history` quotes rounds: one answer per line
    return Demonstration(question, 2, final, "history", tuple(text for text, _ in drafts), completion)


def stream(
    seed: int, settings: Demonstrations, exclude: Collection[str] = frozenset()
) -> Callable[[int], list[Demonstration]]:
    """A function that returns the next ``count`` demonstrations of the random sequence of ``seed``."""
    rng = random.Random(seed)
    return lambda count: [draw(rng, settings, exclude) for _ in range(count)]
