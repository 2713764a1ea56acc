"""Graphs of turns: who quotes whom, values with two-level means, and credit on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from src.algorithms.grpo import GRPO
from src.credit.siblings import Siblings
from src.rewards.base import Reward, backed_up
from src.rewards.outcome import Outcome
from src.types import Path, Problem, Rollout, Sampling, Status, Turn

PROBLEM = Problem("p", "3+4", "7")
SETS: dict[Path, tuple[Path, ...]] = {(0,): ((0,), (1,)), (1,): ((2,), (0,)), (2,): ((1,), (2,))}
"""Three drafts; each of three prompts quotes two of them, so every draft is in two prompts (balanced)."""


def turn(path: Path, text: str = "", sources: tuple[Path, ...] | None = None, status: Status = Status.DONE) -> Turn:
    return Turn(path, (1,), Sampling(9), text=text, sources=sources, status=status, completion=(1,), logprobs=(-1.0,))


def graph(aggregations: Mapping[Path, str], dead: tuple[Path, ...] = ()) -> Rollout:
    drafts = [turn((index,)) for index in range(3)]
    later = [
        turn(path, text, SETS[path[:-1]], Status.FAILED if path in dead else Status.DONE)
        for path, text in sorted(aggregations.items())
    ]
    return Rollout(PROBLEM, (*drafts, *later))


def score(turn: Turn) -> float:
    return float(turn.text or 0)


VERDICTS = {(0, 0): "1", (0, 1): "0", (1, 0): "1", (1, 1): "1", (2, 0): "0", (2, 1): "0"}


def test_by_default_a_turn_quotes_the_turn_above_it() -> None:
    assert turn((3,)).quoted == ()
    assert turn((3,)).source == ()
    assert turn((3, 1)).quoted == ((3,),)
    assert turn((3, 1)).source == (3,)
    assert dataclasses.replace(turn((3, 1)), status=Status.PRUNED).quoted == ((3,),)


@pytest.mark.parametrize("sources", [((0,), (0,)), ((0, 0),), ((),)])
def test_sources_are_different_turns_of_earlier_rounds(sources: tuple[Path, ...]) -> None:
    with pytest.raises(ValueError, match="earlier rounds"):
        turn((0, 1), sources=sources)


def test_a_comparison_with_the_source_is_refused_for_several_sources() -> None:
    with pytest.raises(ValueError, match="quotes 2 turns"):
        _ = turn((0, 0), sources=((0,), (1,))).source


def test_children_quote_a_turn_and_siblings_share_a_prompt() -> None:
    rollout = graph(VERDICTS)
    assert [child.path for child in rollout.children((0,))] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [child.path for child in rollout.children(())] == [(0,), (1,), (2,)]
    assert [other.path for other in rollout.siblings(rollout.turns[3])] == [(0, 0), (0, 1)]
    assert [leaf.path for leaf in rollout.leaves()] == sorted(VERDICTS)


def test_a_draft_that_no_live_turn_quotes_is_a_leaf() -> None:
    rollout = graph({path: VERDICTS[path] for path in [(0, 0), (1, 0)]}, dead=((1, 0),))
    assert [leaf.path for leaf in rollout.leaves()] == [(2,), (0, 0)]


def test_a_draft_is_worth_the_mean_over_the_prompts_that_quote_it() -> None:
    values = backed_up(graph(VERDICTS), score)  # f of the prompts: 1/2, 1, 0
    assert [values[index,] for index in range(3)] == [0.75, 0.25, 0.5]


def test_a_prompt_with_more_live_turns_does_not_weigh_more() -> None:
    values = backed_up(graph(VERDICTS, dead=((1, 1),)), score)  # a mean over turns would give 2/3
    assert values[0,] == 0.75


def test_siblings_on_balanced_sets_is_the_credit_of_spiral() -> None:
    """Drafts: mean of f over own sets minus mean of f over all sets; aggregations: own score minus f (2606.23595)."""
    reward = Reward(terms={"outcome": Outcome()})
    rollout = graph(VERDICTS)
    scores = reward.score([rollout], lambda _, text: float(text or 0))
    dr_grpo = GRPO(scale="none")
    rows = {row.path: row.advantage for row in Siblings().rows([rollout], scores, dr_grpo.advantages).rows}
    means = {prompt: sum(float(VERDICTS[(*prompt, index)]) for index in range(2)) / 2 for prompt in SETS}
    for draft in [(0,), (1,), (2,)]:
        own = [means[prompt] for prompt, sources in SETS.items() if draft in sources]
        assert rows[draft] == pytest.approx(sum(own) / len(own) - sum(means.values()) / len(means), abs=1e-12)
    for path, text in VERDICTS.items():
        assert rows[path] == pytest.approx(float(text) - means[path[:-1]], abs=1e-12)


def test_a_lone_aggregation_does_not_inherit() -> None:
    rollout = graph({path: VERDICTS[path] for path in [(0, 0), (1, 0), (2, 0)]})
    scores = Reward(terms={"outcome": Outcome()}).score([rollout], lambda _, text: float(text or 0))
    credited = Siblings().rows([rollout], scores, GRPO(scale="none").advantages)
    assert {row.path for row in credited.rows} == {(0,), (1,), (2,)}
    assert credited.lonely_groups == 3
