"""Drafts that are read together: balanced sets, prompts of several drafts, streams, evaluation, refused settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from src.config import compose
from src.config.validating import validated
from src.evaluation.sampling import accepted, behind, sampled
from src.rounds.aggregation import Aggregation, balanced
from src.rounds.carry.answer import Answer
from src.rounds.carry.none import Nothing
from src.rounds.carry.tail import Tail
from src.rounds.growing import grow
from src.rounds.prompts import Prompts
from src.types import Children, InputError, OnToken, Problem, Rollout, Status, Turn

PROBLEM = Problem("p", "Q", "")
DRAFTS = [(index,) for index in range(8)]


class Codec:
    def chat(self, messages: Sequence[Any]) -> tuple[int, ...]:
        return self.encode(messages[-1]["content"])

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


class Paths:
    """Writes the path of each turn, in any order of turns."""

    def __init__(self, last: int = -1) -> None:
        self.last = last

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting = list(turns)
        while waiting:
            turn = waiting.pop(self.last)
            text = f"<answer>draft {''.join(map(str, turn.path))}</answer>"
            waiting += children(replace(turn, status=Status.DONE, text=text, completion=(1,), logprobs=(-1.0,)))
        return []


def strategy(**settings: Any) -> Aggregation:
    prompts = Prompts(first="{question}", later="{question}\n{progress}", final="!")
    budgets = {"context": 99, "first_tokens": 20, "later_tokens": 20, "progress_tokens": 8}
    return Aggregation(**{"prompts": prompts, "carry": Answer(), **budgets, **settings})


def grown(one: Aggregation, seed: int = 0, last: int = -1) -> Rollout:
    return grow(Paths(last), one, [PROBLEM], Codec(), (seed,))[0]


@pytest.mark.parametrize(("drafts", "sets", "size"), [(8, 4, 4), (8, 6, 4), (6, 4, 3), (3, 3, 2), (4, 4, 4), (5, 5, 1)])
def test_every_draft_is_in_equally_many_sets(drafts: int, sets: int, size: int) -> None:
    for draw in range(20):
        drawn = balanced(DRAFTS[:drafts], sets, size, draw)
        assert [len(set(members)) for members in drawn] == [size] * sets
        assert Counter(draft for members in drawn for draft in members) == dict.fromkeys(
            DRAFTS[:drafts], sets * size // drafts
        )


def test_sets_differ_between_problems_and_no_draft_is_preferred() -> None:
    assert balanced(DRAFTS, 4, 4, 1) == balanced(DRAFTS, 4, 4, 1)
    pairs = Counter(tuple(balanced(DRAFTS[:4], 2, 2, draw)[0]) for draw in range(600))
    assert len(pairs) == 6
    assert min(pairs.values()) > 60
    with pytest.raises(ValueError, match="equally often"):
        balanced(DRAFTS, 3, 3, 0)


def test_aggregations_of_a_set_share_a_prompt_that_quotes_its_drafts_in_order() -> None:
    rollout = grown(strategy(draft="{number}) {progress}"))
    assert [len(rollout.level(number)) for number in (1, 2)] == [8, 16]
    for turn in rollout.level(2):
        names = [f"draft {path[0]}" for path in turn.quoted]
        wanted = "\n".join(f"{number}) {name}" for number, name in enumerate(names, 1))
        assert turn.carried == wanted
        assert Codec().decode(turn.prompt) == f"Q\n{wanted}!"
        assert turn.final
        assert {other.prompt for other in rollout.siblings(turn)} == {turn.prompt}
    orders = [turn.quoted for turn in rollout.level(2)[::4]]
    assert any(list(order) != sorted(order) for order in orders)
    assert all(not turn.final and Codec().decode(turn.prompt) == "Q!" for turn in rollout.level(1))


def test_sets_and_orders_depend_on_the_seed_but_not_on_which_draft_ends_first() -> None:
    assert grown(strategy(), last=0) == grown(strategy(), last=-1)
    assert [turn.quoted for turn in grown(strategy(), 1).level(2)] != [
        turn.quoted for turn in grown(strategy()).level(2)
    ]


def test_each_draft_has_its_own_budget() -> None:
    rollout = grown(strategy(progress_tokens=3, keep="tail"))
    turn = rollout.level(2)[0]
    assert turn.carried == "\n".join(f"t {path[0]}" for path in turn.quoted)
    assert turn.carried_cut


def test_an_own_template_for_drafts() -> None:
    turn = grown(strategy(together="{progress} <- {question}")).level(2)[0]
    assert Codec().decode(turn.prompt) == f"{turn.carried} <- Q!"


def test_each_answer_at_evaluation_aggregates_drafts_of_its_own() -> None:
    one = strategy().independent(2, 3, 1.0, 1.0)
    assert (one.joins, one.samples, one.widths) == (True, 3, (4, 1))
    turns = sampled([grown(one, seed) for seed in range(3)])
    assert [[turn.path for turn in answer] for answer in turns] == [[(0,), (1,), (2,), (3,), (0, 0)]] * 3
    assert [turn.path for turn in accepted(grown(one))][-1] == (0, 0)
    alone = strategy().independent(1, 3, 1.0, 1.0)
    assert (alone.joins, alone.samples) == (False, 3)
    assert [[turn.path for turn in answer] for answer in behind(grown(alone))] == [[(0,)], [(1,)], [(2,)]]


def test_only_drafts_of_its_set_are_behind_an_answer() -> None:
    rollout = grown(strategy())
    for answer in behind(rollout):
        assert {turn.path for turn in answer[:-1]} == set(answer[-1].quoted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": 9}, "cannot be drawn from rounds.responses=8"),
        ({"sets": 3}, "equally often"),
        ({"progress_tokens": 25}, "fill the whole context of 99"),
        ({"carry": Tail()}, "must give the text of a draft"),
        ({"carry": Nothing()}, "must give the text of a draft"),
        ({"n": 3}, "are two rounds"),
        ({"together": "{question}"}, "lacks {progress}"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strategy(**settings)


def test_a_problem_must_fit_with_all_drafts() -> None:
    strategy().check_problem(PROBLEM, Codec())
    with pytest.raises(InputError, match=r"rounds\.sources=4 drafts"):
        strategy().check_problem(replace(PROBLEM, question="Q" * 62), Codec())
    strategy(n=1).check_problem(replace(PROBLEM, question="Q" * 62), Codec())


BAD = {
    "rounds.sources=9": "cannot be drawn",
    "algorithm.aggregation=trajectory": "averages over trajectories",
    "credit=global-local": "compares a turn with the one that it quotes",
    "rounds.top_p=0.5": "truncates the sampling distribution",
    "evaluation.rounds=[3]": "asks for 3 rounds",
}


def test_bad_settings_of_a_run_are_named_together() -> None:
    with pytest.raises(InputError) as caught:
        validated("train", compose("train", ["experiment=spiral", *BAD]))
    for message in BAD.values():
        assert message in str(caught.value)


def test_unscaled_and_scaled_advantages_do_not_mix() -> None:
    with pytest.raises(InputError, match="does not scale the advantages of drafts"):
        validated("train", compose("train", ["experiment=spiral", "credit.absent=true", "algorithm.scale=group"]))
