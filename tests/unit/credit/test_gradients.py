"""Which gradient each credit rule follows: exact expectations over every possible tree of a two-letter world.

A turn writes one of two letters after the letters that it was handed; the whole string decides the reward. Every tree
can be listed, so the expected update of a rule is known to rounding, and can be held against the gradient of the
expected reward.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from src.algorithms.grpo import GRPO
from src.credit.first import First
from src.credit.global_local import GlobalLocal
from src.credit.paragator import Paragator
from src.credit.process import Process
from src.credit.siblings import Siblings
from src.rewards.base import Reward
from src.rewards.immediate import Immediate
from src.rewards.outcome import Outcome
from src.rounds.aggregation import Aggregation
from src.rounds.carry.answer import Answer
from src.rounds.growing import grow
from src.rounds.mixture import Mixture, Part
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.types import Children, OnToken, Path, Problem, Rollout, Status, Turn
from src.verifiers.tags import progress

LETTERS = "ab"
PROBLEM = Problem("p", "?", "")
WORTH = {"".join(word): 0.1 + 0.37 * index**1.5 % 1 for index, word in enumerate(itertools.product("ab", repeat=3))}
WORTH |= {"".join(word): 0.2 + 0.53 * index**1.3 % 1 for index, word in enumerate(itertools.product("ab", repeat=2))}
WORTH |= {"a": 1.0, "b": 0.0}
Policy = dict[str, Tensor]


def scorer(problem: Problem, text: str) -> float:
    return WORTH[progress(text)]


class Codec:
    def chat(self, messages: Sequence[Any]) -> tuple[int, ...]:
        return self.encode(messages[0]["content"])

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


class Chosen:
    """Writes the letter that is chosen for each path."""

    def __init__(self, letters: dict[Path, int]) -> None:
        self.letters = letters

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting = list(turns)
        while waiting:
            turn = waiting.pop()
            letter = self.letters.setdefault(turn.path, 0)
            text = f"<answer>{turn.carried}{LETTERS[letter]}</answer>"
            waiting += children(replace(turn, status=Status.DONE, text=text, completion=(letter,), logprobs=(-1.0,)))
        return []


def rounds(n: int, **shape: Any) -> MultiRound:
    prompts = Prompts(first="", later="{progress}")
    budgets = {"context": 99, "first_tokens": 9, "later_tokens": 9, "progress_tokens": 9}
    return MultiRound(n=n, prompts=prompts, carry=Answer(), **budgets, **shape)


def forest(strategy: MultiRound) -> list[Rollout]:
    """Every tree that the strategy can grow."""
    places: dict[Path, int] = {}
    grow(Chosen(places), strategy, [PROBLEM], Codec(), ())
    paths = sorted(places)
    return [
        grow(Chosen(dict(zip(paths, letters, strict=True))), strategy, [PROBLEM], Codec(), ())[0]
        for letters in itertools.product(range(2), repeat=len(paths))
    ]


def policy(n: int) -> Policy:
    """Logits of the two letters after every string shorter than ``n``."""
    generator = torch.Generator().manual_seed(0)
    states = ["".join(word) for length in range(n) for word in itertools.product(LETTERS, repeat=length)]
    return {state: torch.randn(2, generator=generator, dtype=torch.float64, requires_grad=True) for state in states}


def logprob(weights: Policy, turn: Turn) -> Tensor:
    return weights[turn.carried].log_softmax(-1)[turn.completion[0]]


def by_round(gradient: dict[str, Tensor], n: int) -> list[Tensor]:
    return [torch.cat([g for state, g in gradient.items() if len(state) == length]) for length in range(n)]


def exact(n: int) -> list[Tensor]:
    """The gradient of the expected reward, for each round's parameters."""
    weights = policy(n)
    total = torch.zeros((), dtype=torch.float64)
    for word in itertools.product(range(2), repeat=n):
        text = "".join(LETTERS[letter] for letter in word)
        total = (
            total + WORTH[text] * sum(weights[text[:i]].log_softmax(-1)[letter] for i, letter in enumerate(word)).exp()
        )  # type: ignore[union-attr]
    gradients = torch.autograd.grad(total, list(weights.values()))
    return by_round(dict(zip(weights, gradients, strict=True)), n)


def expected(strategy: MultiRound, rule: Any, advantages: Callable[..., Any]) -> list[Tensor]:
    """The expectation of sum_rows weight * advantage * grad log-prob over every tree, for each round's parameters."""
    weights = policy(strategy.n)
    total = torch.zeros((), dtype=torch.float64)
    reward, mass = Reward(terms={"outcome": Outcome()}), 0.0
    for rollout in forest(strategy):
        probability = float(sum(logprob(weights, turn) for turn in rollout.turns).exp().detach())  # type: ignore[union-attr]
        mass += probability
        turns = {turn.path: turn for turn in rollout.turns}
        for row in rule.rows([rollout], reward.score([rollout], scorer), advantages).rows:
            total = total + probability * row.weight * row.advantage * logprob(weights, turns[row.path])
    assert mass == pytest.approx(1)
    gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    known = [g if g is not None else torch.zeros(2, dtype=torch.float64) for g in gradients]
    return by_round(dict(zip(weights, known, strict=True)), strategy.n)


def leave_one_out(values: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[value - (sum(group) - value) / (len(group) - 1) for value in group] for group in values]


def centred(values: Sequence[Sequence[float]]) -> list[list[float]]:
    return GRPO(scale="none").advantages(values)


PROCESS = Process(scale="none")
CASES: dict[str, tuple[MultiRound, Any, Callable[..., Any], list[float]]] = {
    # MOTIF follows the gradient of the first round alone; leave-one-out baselines are unbiased, those that count the
    # turn itself shorten it by (m - 1) / m, whatever the round.
    "first": (rounds(3, branching=[2, 2, 1]), First(), leave_one_out, [1, 0, 0]),
    "first, probes in place of continuations": (rounds(2, branching=[2, 1], probes=1), First(), leave_one_out, [1, 0]),
    "first, mean baseline": (rounds(2, branching=[3, 1]), First(), centred, [2 / 3, 0]),
    "siblings on a tree": (rounds(3, branching=[2, 2, 1]), Siblings(), leave_one_out, [1, 1, 1]),
    "siblings on a tree, mean baseline": (rounds(2, branching=[3, 2]), Siblings(), centred, [2 / 3, 1 / 2]),
    "siblings on chains": (rounds(3, branching=[3, 1, 1]), Siblings(), leave_one_out, [1, 1, 1]),
    "siblings on chains, by turns": (
        rounds(3, branching=[3, 1, 1]),
        Siblings(weighting="turn"),
        leave_one_out,
        [3, 3, 3],
    ),
    "process": (rounds(2, branching=[2, 1], probes=1), PROCESS, leave_one_out, [1, 1]),
    "process with two probes": (rounds(2, branching=[1, 1], probes=2), PROCESS, leave_one_out, [1, 1]),
    # V(root) and V(parent) count the turn itself: 1/m of them at the first round; 1/4 and 1/2 at the second; at the
    # third only the first comparison is left. Divided by the root of the leaves below: 2, 1, 1.
    "global and local": (
        rounds(3, branching=[2, 2, 1]),
        GlobalLocal(weighting="level"),
        leave_one_out,
        [2 * (1 / 2) / 2**0.5, 3 / 4 + 1 / 2, 3 / 4],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_expected_update_is_the_gradient_of_the_expected_reward(case: str) -> None:
    strategy, rule, advantages, factors = CASES[case]
    for found, true, factor in zip(expected(strategy, rule, advantages), exact(strategy.n), factors, strict=True):
        torch.testing.assert_close(found, factor * true, rtol=0, atol=1e-12)


def test_dividing_by_the_groups_deviation_changes_the_direction() -> None:
    """The bias of GRPO's scaling: problems and choices with little spread weigh more (Dr. GRPO, arXiv 2503.20783)."""
    found = expected(rounds(2, branching=[2, 2]), Siblings(), GRPO(scale="group").advantages)
    true = exact(2)
    turned = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(found, true, strict=True)]
    assert turned[0] == pytest.approx(1)  # two letters of one state: there is only one direction
    assert 0.5 < turned[1] < 0.999


def aggregation(**shape: int) -> Aggregation:
    """Drafts of one letter; an aggregation reads two letters in the order of its prompt and writes the third."""
    budgets = {"context": 99, "first_tokens": 9, "later_tokens": 9, "progress_tokens": 9}
    return Aggregation(prompts=Prompts(first="", later="{progress}"), carry=Answer(), sources=2, **budgets, **shape)


class Reading(Chosen):
    """Writes the letter that is chosen for each path after the letters that were read, which stand on lines."""

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        return super().generate([joined(turn) for turn in turns], lambda turn: [*map(joined, children(turn))], on_token)


def joined(turn: Turn) -> Turn:
    return replace(turn, carried=turn.carried.replace("\n", ""))


def graphs(strategy: Aggregation, key: int) -> list[Rollout]:
    """Every graph that the strategy can grow from the sets and orders that ``key`` draws."""
    places: dict[Path, int] = {}
    grow(Reading(places), strategy, [PROBLEM], Codec(), (key,))
    paths = sorted(places)
    return [
        grow(Reading(dict(zip(paths, letters, strict=True))), strategy, [PROBLEM], Codec(), (key,))[0]
        for letters in itertools.product(range(2), repeat=len(paths))
    ]


def expected_on_graphs(
    strategy: Aggregation, key: int, advantages: Callable[..., Any], rule: Any = None
) -> tuple[Tensor, Tensor]:
    """Expected update of the drafts' logits and of the aggregations' logits, over every graph."""
    weights = policy(3)
    total = torch.zeros((), dtype=torch.float64)
    reward, mass = Reward(terms={"outcome": Outcome(), "immediate": Immediate(weight=0.0)}), 0.0
    for rollout in graphs(strategy, key):
        probability = float(sum(logprob(weights, turn) for turn in rollout.turns).exp().detach())  # type: ignore[union-attr]
        mass += probability
        turns = {turn.path: turn for turn in rollout.turns}
        for row in (rule or Siblings()).rows([rollout], reward.score([rollout], scorer), advantages).rows:
            total = total + probability * row.weight * row.advantage * logprob(weights, turns[row.path])
    assert mass == pytest.approx(1)
    return by_stage(weights, total)


def exact_on_graphs() -> tuple[Tensor, Tensor]:
    """Gradient of the expected reward of one aggregation of two drafts, split in the same way."""
    weights = policy(3)
    total = torch.zeros((), dtype=torch.float64)
    for first, second, third in itertools.product(range(2), repeat=3):
        pair = LETTERS[first] + LETTERS[second]
        drafts = weights[""].log_softmax(-1)
        chance = (drafts[first] + drafts[second] + weights[pair].log_softmax(-1)[third]).exp()
        total = total + WORTH[pair + LETTERS[third]] * chance
    return by_stage(weights, total)


def by_stage(weights: Policy, total: Tensor) -> tuple[Tensor, Tensor]:
    gradients = dict(zip(weights, torch.autograd.grad(total, list(weights.values()), allow_unused=True), strict=True))
    pairs = ["aa", "ab", "ba", "bb"]
    return gradients[""], torch.cat([gradients[pair] for pair in pairs])


@pytest.mark.parametrize("key", range(3))
@pytest.mark.parametrize(
    ("shape", "advantages", "drafts", "aggregations"),
    [
        # A draft is one of n = 2 of its prompts, so it has 1/n of the drafts' gradient. The mean over all sets includes
        # its own, which shortens the update by 1 - n/N; f(G) includes the aggregation, which shortens it by 1 - 1/N2.
        ({"responses": 3, "sets": 3, "trajectories": 2}, centred, 1 / 2 * (1 - 2 / 3), 1 - 1 / 2),
        ({"responses": 4, "sets": 2, "trajectories": 3}, centred, 1 / 2 * (1 - 2 / 4), 1 - 1 / 3),
        # Against the other drafts, which share sets with it: N/(N - 1) of that.
        ({"responses": 3, "sets": 3, "trajectories": 2}, leave_one_out, 1 / 2 * (1 - 2 / 3) * 3 / 2, 1),
        # If all drafts are in all sets, they cannot be told apart.
        ({"responses": 2, "sets": 2, "trajectories": 2}, centred, 0, 1 - 1 / 2),
    ],
)
def test_the_expected_update_of_drafts_that_are_read_together(
    key: int, shape: dict[str, int], advantages: Callable[..., Any], drafts: float, aggregations: float
) -> None:
    found = expected_on_graphs(aggregation(**shape), key, advantages)
    for update, true, factor in zip(found, exact_on_graphs(), (drafts, aggregations), strict=True):
        torch.testing.assert_close(update, factor * true, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [{"responses": 3, "sets": 3}, {"responses": 4, "sets": 2}])
def test_the_baseline_over_sets_without_the_draft_does_not_shorten_the_update(shape: dict[str, int]) -> None:
    found = expected_on_graphs(aggregation(**shape, trajectories=2), 1, leave_one_out, Siblings(absent=True))
    for update, true, factor in zip(found, exact_on_graphs(), (1 / 2, 1), strict=True):
        torch.testing.assert_close(update, factor * true, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "drafts"), [(None, 3), (1, 3), (2, 4), (3, 4), (3, 3)])
@pytest.mark.parametrize("baseline", [centred, leave_one_out])
def test_paragator_follows_the_gradient_of_pass_at_k_and_of_pass_at_1(
    k: int | None, drafts: int, baseline: Callable[..., Any]
) -> None:
    """Draft a is right. Of N drafts the update has (1 - k/N)/k of the gradient of pass@k, N/(N - 1) of that with a
    leave-one-out baseline; aggregations have the same update as without it."""
    sets = {3: 3, 4: 2}[drafts]
    found = expected_on_graphs(aggregation(responses=drafts, sets=sets, trajectories=2), 0, baseline, Paragator(k=k))
    size, weights = k or 2, policy(3)
    chance = 1 - (1 - weights[""].softmax(-1)[0]) ** size
    true = torch.autograd.grad(chance, weights[""])[0]
    factor = (1 - size / drafts) / size * (drafts / (drafts - 1) if baseline is leave_one_out else 1)
    torch.testing.assert_close(found[0], factor * true, rtol=0, atol=1e-12)
    share = 1 if baseline is leave_one_out else 1 - 1 / 2
    torch.testing.assert_close(found[1], share * exact_on_graphs()[1], rtol=0, atol=1e-12)


def test_the_credit_of_drafts_is_that_of_their_sets() -> None:
    """Draft: mean over its sets of f(G) minus the mean over all sets. Aggregation: score minus f(G) (SPIRAL)."""
    strategy, reward = aggregation(responses=4, sets=4, trajectories=2), Reward(terms={"outcome": Outcome()})
    for number in range(9):
        letters = dict.fromkeys([*itertools.product(range(4)), *itertools.product(range(4), range(2))], 0)
        letters = {path: hash((number, path)) % 2 for path in letters}
        (rollout,) = grow(Reading(letters), strategy, [PROBLEM], Codec(), (number,))
        found = {
            row.path: row.advantage for row in Siblings().rows([rollout], reward.score([rollout], scorer), centred).rows
        }
        sets: dict[int, list[Turn]] = {}
        for turn in rollout.level(2):
            sets.setdefault(turn.path[0], []).append(turn)
        f = {number: sum(scorer(PROBLEM, turn.text) for turn in turns) / 2 for number, turns in sets.items()}
        for draft in rollout.level(1):
            own = [f[number] for number, turns in sets.items() if draft.path in turns[0].quoted]
            assert len(own) == 2
            assert found[draft.path] == pytest.approx(sum(own) / 2 - sum(f.values()) / 4, abs=1e-12)
        for number, turns in sets.items():
            for turn in turns:
                assert found[turn.path] == pytest.approx(scorer(PROBLEM, turn.text) - f[number], abs=1e-12)


class ChosenOfSeveral(Chosen):
    """Writes the letter that is chosen for each rollout and path."""

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting = list(turns)
        while waiting:
            turn = waiting.pop()
            letter = self.letters.setdefault((turn.tree, *turn.path), 0)
            text = f"<answer>{turn.carried}{LETTERS[letter]}</answer>"
            waiting += children(replace(turn, status=Status.DONE, text=text, completion=(letter,), logprobs=(-1.0,)))
        return []


def test_the_expected_update_of_a_mixture_is_that_of_its_parts_over_all_rows() -> None:
    """One problem by single rounds, one by trees of two rounds. The sum is divided by 1 + 2, the weight of all rows."""
    parts = {"single": rounds(1, branching=[2]), "trees": rounds(2, branching=[2, 2])}
    mixture = Mixture(
        n=2,
        prompts=Prompts(first="", later=""),
        evaluated="trees",
        parts={name: Part(strategy=strategy) for name, strategy in parts.items()},
    )
    problems = mixture.assigned([PROBLEM, replace(PROBLEM, id="q")])
    assert [problem.part for problem in problems] == ["single", "trees"]  # type: ignore[attr-defined]
    places: dict[Path, int] = {}
    grow(ChosenOfSeveral(places), mixture, problems, Codec(), ())
    algorithm, reward = GRPO(scale="none", baseline="leave_one_out"), Reward(terms={"outcome": Outcome()})
    weights = policy(2)
    total = torch.zeros((), dtype=torch.float64)
    for letters in itertools.product(range(2), repeat=len(places)):
        chosen = ChosenOfSeveral(dict(zip(sorted(places), letters, strict=True)))
        rollouts = grow(chosen, mixture, problems, Codec(), ())
        turns = {(turn.tree, turn.path): turn for rollout in rollouts for turn in rollout.turns}
        chance = float(sum(logprob(weights, turn) for turn in turns.values()).exp().detach())  # type: ignore[union-attr]
        rows = Siblings().rows(rollouts, reward.score(rollouts, scorer), algorithm.advantages).rows
        assert {row.group for row in rows} == {(0, ()), (1, ()), (1, (0,)), (1, (1,))}
        ones = torch.ones(len(rows), dtype=torch.float64)
        shares = algorithm.shares(
            ones, torch.tensor([row.weight for row in rows], dtype=torch.float64), torch.arange(len(rows))
        )
        for row, share in zip(rows, shares.tolist(), strict=True):
            total = total + chance * share * row.advantage * logprob(weights, turns[row.tree, row.path])
    found = by_round(dict(zip(weights, torch.autograd.grad(total, list(weights.values())), strict=True)), 2)
    (single,), (first, second) = exact(1), exact(2)
    torch.testing.assert_close(found[0], (single + first) / 3, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], second / 3, rtol=0, atol=1e-12)
