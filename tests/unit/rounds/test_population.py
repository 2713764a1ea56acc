"""Population search: what each round reads, its limits (chains, one round), failures, and refused settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from src.config import compose
from src.evaluation.sampling import accepted, behind
from src.rounds.base import Carry, TokenCarry
from src.rounds.carry.answer import Answer
from src.rounds.carry.memory import Memory
from src.rounds.carry.none import Nothing
from src.rounds.carry.tail import Tail
from src.rounds.growing import grow
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.rounds.search.aggregate import Aggregate
from src.types import Children, InputError, OnToken, Problem, Rollout, Status, Turn
from src.verifiers.tags import stated_answer
from tests.helpers.scripted import Letters

PROBLEM = Problem("p", "Q", "")


class Drawn:
    """Writes what the prompt and the stream of a turn decide; some turns reach their budget, and some may fail."""

    def __init__(self, last: int = -1, failed: Sequence[tuple[int, ...]] = ()) -> None:
        self.last, self.failed = last, failed

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting = list(turns)
        while waiting:
            turn = waiting.pop(self.last)
            number = (turn.stream + sum(turn.prompt)) % 7
            text = f"w{number}<answer>\\boxed{{{number % 3}}}</answer>"
            status = Status.DONE if number < 2 else Status.TRUNCATED
            if turn.path in self.failed:
                text, status = "", Status.FAILED
            done = replace(turn, status=status, text=text, completion=tuple(map(ord, text)))
            waiting += children(replace(done, logprobs=(-1.0,) * len(done.completion)))
        return []


def strategy(n: int, carry: Carry | TokenCarry, search: Aggregate | None, **settings: Any) -> MultiRound:
    prompts = Prompts(first="{question}", later="{question}|{progress}|{round}", final="!")
    budgets = {"context": 400, "first_tokens": 40, "later_tokens": 40, "progress_tokens": 40}
    return MultiRound(**{"n": n, "prompts": prompts, "carry": carry, "search": search, **budgets, **settings})


def grown(one: MultiRound, seed: int = 0, engine: Drawn | None = None) -> Rollout:
    return grow(engine or Drawn(), one, [PROBLEM], Letters(), (seed,))[0]


def written(rollout: Rollout) -> list[Turn]:
    """The turns as they were before the vote pruned some of them."""
    return [replace(turn, status=Status.DONE) for turn in rollout.turns]


@pytest.mark.parametrize("carry", [Tail(), Answer(), Memory()])
def test_with_one_source_it_is_a_vote_over_chains(carry: Carry | TokenCarry) -> None:
    """With the carry rule tail, these are Delethink's chains, and some of them end early."""
    search, short = Aggregate(candidates=5, sources=1), 0
    for seed in range(20):
        found = grown(strategy(4, carry, search).independent(4, 1, 1.0, 1.0), seed)
        chains = grown(strategy(4, carry, None).independent(4, 5, 1.0, 1.0), seed)
        assert written(found) == written(chains)
        short += sum(leaf.round < 4 for leaf in chains.leaves())
        votes = Counter(stated_answer(leaf.said) for leaf in chains.leaves())
        assert votes[stated_answer(accepted(found)[-1].said)] == max(votes.values())
        assert len(behind(found)) == 1
    assert (short > 0) == isinstance(carry, Tail)


def test_one_round_is_a_vote_over_parallel_samples() -> None:
    for seed in range(20):
        found = grown(strategy(1, Memory(), Aggregate(candidates=9)).independent(1, 1, 1.0, 1.0), seed)
        samples = grown(strategy(1, Memory(), None).independent(1, 9, 1.0, 1.0), seed)
        assert written(found) == written(samples)
        answers = [stated_answer(turn.text) for turn in samples.turns]
        assert stated_answer(accepted(found)[-1].text) == Counter(answers).most_common(1)[0][0]


@pytest.mark.parametrize(("candidates", "sources"), [(6, 2), (4, 4), (5, 3)])
def test_each_round_reads_balanced_sets_of_the_round_before(candidates: int, sources: int) -> None:
    rollout = grown(strategy(4, Memory(), Aggregate(candidates=candidates, sources=sources)))
    orders = []
    for number in (2, 3, 4):
        level = rollout.level(number)
        assert [turn.path for turn in level] == [(place, *[0] * (number - 1)) for place in range(candidates)]
        quoted = Counter(path for turn in level for path in turn.quoted)
        assert quoted == dict.fromkeys([turn.path for turn in rollout.level(number - 1)], sources)
        assert all(turn.final == (number == 4) for turn in level)
        orders.append([tuple(path[0] for path in turn.quoted) for turn in level])
    assert orders[0] != orders[1]  # sets and orders are drawn anew in each round


def test_the_draw_does_not_depend_on_which_turn_ends_first() -> None:
    one = strategy(3, Memory(), Aggregate(candidates=6, sources=3))
    assert grown(one, engine=Drawn(last=0)) == grown(one, engine=Drawn(last=-1))
    assert [turn.quoted for turn in grown(one, 1).level(2)] != [turn.quoted for turn in grown(one).level(2)]


@pytest.mark.parametrize(
    ("carry", "told"),
    [
        (Answer(), lambda turn: turn.text.partition("<answer>")[2].partition("</answer>")[0]),
        (Memory(), lambda turn: turn.text),
        (Tail(head=0), lambda turn: turn.text[-12:]),
        (Tail(head=0.5), lambda turn: turn.text[:6] + turn.text[-6:]),
    ],
)
def test_the_carry_rule_selects_what_a_prompt_quotes(carry: Carry | TokenCarry, told: Any) -> None:
    size = 12 if isinstance(carry, Tail) else 40
    search = Aggregate(candidates=4, sources=2, draft="{number}) {progress}")
    rollout = grown(strategy(3, carry, search, progress_tokens=size))
    by_path = {turn.path: turn for turn in rollout.turns}
    for turn in [*rollout.level(2), *rollout.level(3)]:
        wanted = "\n".join(f"{n}) {told(by_path[path])}" for n, path in enumerate(turn.quoted, 1))
        assert turn.carried == wanted
        assert turn.carried_cut == isinstance(carry, Tail)
        assert Letters().decode(turn.prompt) == f"Q|{wanted}|{turn.round}" + "!" * (turn.round == 3)


def test_an_own_template() -> None:
    search = Aggregate(candidates=3, sources=2, together="{progress} -> {question}")
    turn = grown(strategy(2, Memory(), search)).level(2)[0]
    assert Letters().decode(turn.prompt) == f"{turn.carried} -> Q!"


def test_the_accepted_candidate_stands_behind_the_answer_with_all_that_it_read() -> None:
    rollout = grown(strategy(3, Memory(), Aggregate(candidates=6, sources=2)))
    turns = accepted(rollout)
    assert turns[-1].round == 3
    assert {turn.path for turn in turns if turn.round == 2} == set(turns[-1].quoted)
    assert [leaf.path for leaf in rollout.leaves()] == [turns[-1].path]
    votes = Counter(stated_answer(turn.text) for turn in rollout.level(3))
    assert votes[stated_answer(turns[-1].text)] == max(votes.values())


def test_where_turns_fail_the_population_shrinks() -> None:
    search = Aggregate(candidates=3, sources=3)
    rollout = grown(strategy(3, Memory(), search), engine=Drawn(failed=[(1,)]))
    assert [set(turn.quoted) for turn in rollout.level(2)] == [{(0,), (2,)}] * 2
    ended = grown(strategy(3, Memory(), search), engine=Drawn(failed=[(0,), (1,), (2,)]))
    assert len(ended.turns) == 3


@pytest.mark.parametrize(
    ("search", "settings", "message"),
    [
        ({"sources": 9, "candidates": 8}, {}, "cannot be drawn from rounds.search.candidates=8"),
        ({"draft": "-"}, {}, "rounds.search.draft='-' lacks {progress}"),
        ({}, {"progress_tokens": 100}, "fill the whole context of 400"),
        ({}, {"carry": Nothing()}, "carry=none quotes nothing"),
        ({}, {"carry": Answer(), "ending": "concludes"}, "take all rounds"),
    ],
)
def test_settings_that_cannot_be_are_refused(search: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        strategy(3, **{"carry": Memory(), **settings, "search": Aggregate(**search)})


def test_a_problem_must_fit_with_all_sources() -> None:
    one = strategy(3, Memory(), Aggregate(sources=4))
    one.check_problem(PROBLEM, Letters())
    with pytest.raises(InputError, match=r"rounds\.search\.sources=4 candidates"):
        one.check_problem(replace(PROBLEM, question="Q" * 240), Letters())


@pytest.mark.parametrize("experiment", ["motif", "spiral"])
def test_it_is_refused_in_training_and_with_other_strategies(experiment: str) -> None:
    message = {"motif": "answers without training", "spiral": "add rounds=multi-round"}[experiment]
    search = ["rounds/search=aggregate"] if experiment == "motif" else ["+rounds/search=aggregate"]
    with pytest.raises(InputError, match=message):
        compose("train", [f"experiment={experiment}", *search])
