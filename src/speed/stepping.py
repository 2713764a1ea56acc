"""Timing of the phases of a training step: the rollouts of each round, reward and credit, training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from src.models.policy import Policy
from src.rounds.base import Strategy
from src.rounds.growing import grow
from src.speed.base import Workbench
from src.training.learner import Learner
from src.types import Children, Engine, OnToken, Problem, Row, Turn
from src.verifiers.judge import Judge

MAX_GRAD_NORM = 1.0
MOST_STEPS = 10_000
"""Length of the learning-rate schedule; more steps than any measurement takes."""

SCORING, TRAINING = "reward and credit", "training"


@dataclass(frozen=True)
class Step:
    """Seconds of each phase, and tokens of the phases that generate or train them."""

    seconds: Mapping[str, float]
    tokens: Mapping[str, int]

    @property
    def rollout_seconds(self) -> float:
        """Seconds of all rounds."""
        return sum(seconds for phase, seconds in self.seconds.items() if phase not in (SCORING, TRAINING))

    @property
    def written(self) -> int:
        """Generated tokens of all rounds."""
        return sum(tokens for phase, tokens in self.tokens.items() if phase != TRAINING)


class Stepper:
    """Takes training steps with the configured reward, algorithm and optimizer, each from the same weights."""

    def __init__(self, bench: Workbench, policy: Policy) -> None:
        settings = bench.settings
        run = bench.run
        self.policy, self.reward, self.credit, self.algorithm = policy, run.reward, run.credit, run.algorithm
        self.scorer = Judge(run.verifier.name, run.verifier.scorer(run.benchmark.score), run.verifier.at_once)
        optimizer, schedule = run.optimizer.build(policy.parameters(), MOST_STEPS, run.algorithm.iterations)
        self.learner = Learner(policy, self.algorithm, optimizer, schedule, settings.micro_batch_tokens, MAX_GRAD_NORM)
        self.start = [parameter.detach().clone() for parameter in policy.parameters()]

    def run(self, engine: Engine, strategy: Strategy, problems: Sequence[Problem], key: tuple[object, ...]) -> Step:
        """Take one step on ``problems``. The same key gives the same rollouts."""
        for parameter, value in zip(self.policy.parameters(), self.start, strict=True):
            parameter.data.copy_(value)
        clocked = _Clocked(engine, {})
        begin = time.perf_counter()
        trees = grow(clocked, strategy, problems, self.policy.codec, key, None if self.reward.looks_ahead else 1)
        grown = time.perf_counter()
        scores = self.reward.score(trees, self.scorer)
        rows = self.credit.rows(trees, scores, self.algorithm.advantages).rows
        scored = time.perf_counter()
        self.learner.update(all_learn(rows))
        end = time.perf_counter()
        turns = [turn for tree in trees for turn in tree.turns]
        return Step(
            by_round(begin, clocked.done, grown) | {SCORING: scored - grown, TRAINING: end - scored},
            {
                **{_rollout(number): _written(turns, number) for number in sorted(clocked.done)},
                TRAINING: sum(len(row.completion) for row in rows),
            },
        )


@dataclass
class _Clocked:
    """An engine that records when the last turn of each round finished."""

    engine: Engine
    done: dict[int, float]

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        def timed_children(turn: Turn) -> Sequence[Turn]:
            self.done[turn.round] = time.perf_counter()
            return children(turn)

        return self.engine.generate(turns, timed_children, on_token)


def all_learn(rows: Sequence[Row]) -> list[Row]:
    """The rows with alternating advantages 1 and -1, so that none is skipped."""
    return [replace(row, advantage=-1.0 if index % 2 else 1.0) for index, row in enumerate(rows)]


def by_round(begin: float, done: Mapping[int, float], end: float) -> dict[str, float]:
    """Seconds of each round, from the last turn of the round before to its own last turn.

    The last round lasts until ``end``.
    """
    result = {}
    last = max(done)
    for number in sorted(done):
        now = end if number == last else max(begin, done[number])
        result[_rollout(number)] = now - begin
        begin = now
    return result


def _rollout(number: int) -> str:
    return f"rollout, round {number}"


def _written(turns: Sequence[Turn], number: int) -> int:
    return sum(len(turn.completion) for turn in turns if turn.round == number)
