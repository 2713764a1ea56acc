"""Values on trees, and the training rows computed from them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from src.algorithms.grpo import GRPO
from src.credit.first import First
from src.rewards.base import Reward
from src.rewards.format import Format
from src.rewards.immediate import Immediate
from src.rewards.outcome import Outcome
from src.training.step_metrics import describe, mean_logprob
from src.types import Path, Problem, Rollout, Sampling, Status, Turn
from src.verifiers.tags import stated_answer

PROBLEM = Problem("p", "?", "7")
RIGHT = "<reasoning>x</reasoning><answer>\\boxed{7}</answer>"
WRONG = "<reasoning>x</reasoning><answer>\\boxed{8}</answer>"
MESSY = "\\boxed{7}"


def scorer(problem: Problem, text: str) -> float:
    return float(stated_answer(text) == problem.answer)


def tree(texts: dict[Path, str], dead: tuple[Path, ...] = (), index: int = 0) -> Rollout:
    turns = []
    for path, text in sorted(texts.items(), key=lambda item: (len(item[0]), item[0])):
        status = Status.FAILED if path in dead else Status.DONE
        turns.append(
            Turn(
                path, (1,), Sampling(9), tree=index, status=status, text=text, completion=(1, 2), logprobs=(-1.0, -1.0)
            )
        )
    return Rollout(PROBLEM, tuple(turns))


MIXED = {
    (0,): "-",
    (1,): RIGHT,  # ends early
    (2,): "-",
    (0, 0): RIGHT,
    (0, 1): "-",
    (2, 0): WRONG,
    (2, 1): WRONG,
    (0, 1, 0): RIGHT,
    (0, 1, 1): WRONG,
}


def test_outcome_is_the_mean_over_children_all_the_way_up() -> None:
    scores = Reward(terms={"outcome": Outcome()}).score([tree(MIXED)], scorer)[0]
    assert scores.values[0, 1] == 0.5
    assert [scores.values[index,] for index in range(3)] == [0.75, 1.0, 0.0]  # children count, not leaves (2/3)
    assert scores.correct == scores.values


def test_own_terms_stay_with_their_turn_and_the_prior_looks_ahead() -> None:
    reward = Reward(terms={"outcome": Outcome(), "format": Format(weight=0.5)})
    rollout = tree({(0,): RIGHT, (1,): MESSY, (0, 0): RIGHT, (0, 1): WRONG, (1, 0): MESSY})
    scores = reward.score([rollout], scorer)[0]
    assert scores.own == {(0,): 0.5, (1,): 0.0, (0, 0): 0.5, (0, 1): 0.5, (1, 0): 0.0}
    assert scores.values == {(0,): 1.0, (1,): 1.0, (0, 0): 1.5, (0, 1): 0.5, (1, 0): 1.0}
    assert [scores.ahead(path) for path in ((0,), (1,), (0, 1))] == [0.5, 1.0, 0.0]
    assert scores.prior == 0.75  # the mean of what lies ahead of the first round


def test_probes_of_the_question_tell_its_prior() -> None:
    turns = tree({(0,): WRONG, (1,): WRONG, (2,): RIGHT, (3,): WRONG, (4,): RIGHT}).turns
    rollout = Rollout(PROBLEM, tuple(replace(turn, probe=turn.path[0] > 1) for turn in turns))
    scores = Reward(terms={"outcome": Outcome(), "format": Format(weight=0.5)}).score([rollout], scorer)[0]
    assert scores.prior == pytest.approx(2 / 3)


def test_without_live_turns_the_prior_is_zero() -> None:
    rollout = tree({(0,): RIGHT}, dead=((0,),))
    assert Reward(terms={"outcome": Outcome()}).score([rollout], scorer)[0].prior == 0.0


def test_a_pruned_turn_is_worth_what_its_probes_say_and_nothing_else() -> None:
    turns = tree({(0,): RIGHT, (1,): RIGHT, (0, 0): RIGHT, (1, 0): WRONG, (1, 1): RIGHT}).turns
    status = {(0,): Status.PRUNED, (1,): Status.PRUNED}
    rollout = Rollout(
        PROBLEM,
        tuple(
            replace(turn, status=status.get(turn.path, Status.DONE), probe=turn.path in ((1, 0), (1, 1)))
            for turn in turns
        ),
    )
    scores = Reward(terms={"outcome": Outcome()}).score([rollout], scorer)[0]
    assert (0,) not in scores.values, "its continuation was not sampled to tell its value"
    assert scores.values[1,] == 0.5


def test_dead_turns_have_no_value_and_do_not_count_for_their_parent() -> None:
    scores = Reward(terms={"outcome": Outcome()}).score([tree(MIXED, dead=((0, 1), (0, 1, 0), (0, 1, 1)))], scorer)[0]
    assert scores.values[0,] == 1.0
    assert (0, 1) not in scores.values


def test_terms_are_recorded_separately_and_summed_with_weights() -> None:
    reward = Reward(terms={"outcome": Outcome(weight=2.0), "format": Format(weight=0.5)})
    scores = reward.score([tree({(0,): MESSY, (0, 0): RIGHT, (1,): RIGHT, (1, 0): WRONG})], scorer)[0]
    assert [scores.terms["outcome"][path] for path in ((0,), (1,))] == [1.0, 0.0]
    assert [scores.terms["format"][path] for path in ((0,), (1,))] == [0.0, 1.0]
    assert [scores.values[path] for path in ((0,), (1,))] == [2.0, 0.5]


def test_immediate_scores_each_turns_own_answer() -> None:
    rollout = tree({(0,): RIGHT, (0, 0): WRONG, (1,): WRONG})
    scores = Reward(terms={"immediate": Immediate()}).score([rollout], scorer)[0]
    assert scores.values == {(0,): 1.0, (0, 0): 0.0, (1,): 0.0}
    assert scores.correct[0,] == 0.0


@pytest.mark.parametrize(("terms", "ahead"), [({"a": Outcome(), "b": Format()}, True), ({"a": Immediate()}, False)])
def test_only_terms_at_the_leaves_look_ahead(terms: dict, ahead: bool) -> None:
    assert Reward(terms=terms).looks_ahead is ahead


def test_first_round_turns_learn_against_their_siblings() -> None:
    rollouts = [tree(MIXED), tree({(0,): RIGHT, (1,): WRONG}, index=1)]
    reward = Reward(terms={"outcome": Outcome()})
    credited = First().rows(rollouts, reward.score(rollouts, scorer), GRPO().advantages)
    deviation = math.sqrt(((0.75 - 7 / 12) ** 2 + (1 - 7 / 12) ** 2 + (7 / 12) ** 2) / 2) + 1e-4
    expected = [(0.75 - 7 / 12) / deviation, (1 - 7 / 12) / deviation, -7 / 12 / deviation]
    expected += [0.5 / (math.sqrt(0.5) + 1e-4), -0.5 / (math.sqrt(0.5) + 1e-4)]
    assert [row.advantage for row in credited.rows] == pytest.approx(expected)
    assert [row.weight for row in credited.rows] == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
    assert [(row.tree, row.path) for row in credited.rows] == [(0, (0,)), (0, (1,)), (0, (2,)), (1, (0,)), (1, (1,))]


def test_a_group_of_one_is_counted_and_gives_no_rows() -> None:
    rollouts = [tree({(0,): RIGHT, (1,): WRONG}, dead=((1,),)), tree({(0,): RIGHT, (1,): WRONG}, index=1)]
    credited = First().rows(rollouts, Reward(terms={"o": Outcome()}).score(rollouts, scorer), GRPO().advantages)
    assert (len(credited.rows), credited.groups, credited.lonely_groups) == (2, 1, 1)


def test_metrics_describe_the_first_round_and_each_rounds_completions() -> None:
    rollouts = [tree(MIXED), tree({(0,): RIGHT, (1,): RIGHT}, index=1)]
    scores = Reward(terms={"outcome": Outcome(), "format": Format(weight=0.1)}).score(rollouts, scorer)
    metrics = describe(rollouts, scores, First().rows(rollouts, scores, GRPO().advantages))
    assert metrics["accuracy"] == metrics["reward/outcome"] == pytest.approx((0.75 + 1 + 0 + 1 + 1) / 5)
    assert metrics["reward/format"] == pytest.approx(3 / 5)
    assert metrics["reward"] == pytest.approx(3.75 / 5 + 0.1 * 3 / 5)
    assert metrics["advantage/zero_std_groups"] == 0.5
    assert metrics["completion/round_2/well_formed"] == 3 / 4
    assert metrics["tokens/generated"] == 22
    assert "completion/round_1/logprob" not in metrics  # nothing is known of them
    assert metrics["tokens/trained"] == 10


def test_log_probs_are_averaged_over_tokens_at_temperature_one() -> None:
    turns = [
        Turn((0,), (5,), Sampling(3, temperature=0.5), logprobs=(-9.0,), model_logprobs=(-0.5,)),
        Turn((1,), (5,), Sampling(3), logprobs=(-1.0, -2.0, -3.0), model_logprobs=(-1.0, -2.0, -3.0)),
    ]
    assert mean_logprob(turns) == pytest.approx(-6.5 / 4)


def shifted(groups: list[list[float]]) -> list[list[float]]:
    return [[value - group[0] for value in group] for group in groups]


def test_a_row_has_the_tokens_and_the_advantage_of_its_turn() -> None:
    turns = tuple(
        Turn(
            (index,),
            (5, index),
            Sampling(9, temperature=0.7),
            tree=3,
            status=status,
            text=text,
            completion=(8, index),
            logprobs=(-0.5, -index),
        )
        for index, (text, status) in enumerate([(WRONG, Status.DONE), (RIGHT, Status.TRUNCATED), ("", Status.PRUNED)])
    )
    rollouts = [Rollout(PROBLEM, turns)]
    credited = First().rows(rollouts, Reward(terms={"o": Outcome()}).score(rollouts, scorer), shifted)
    assert [(row.prompt, row.completion, row.logprobs, row.temperature) for row in credited.rows] == [
        ((5, 0), (8, 0), (-0.5, 0), 0.7),
        ((5, 1), (8, 1), (-0.5, -1), 0.7),
    ]
    assert [(row.advantage, row.weight, row.truncated) for row in credited.rows] == [(0, 0.5, False), (1, 0.5, True)]
    assert {row.group for row in credited.rows} == {(3, ())}


def test_equal_siblings_give_rows_with_advantage_zero() -> None:
    rollouts = [tree({(0,): WRONG, (1,): WRONG, (2,): WRONG})]
    credited = First().rows(rollouts, Reward(terms={"o": Outcome()}).score(rollouts, scorer), GRPO().advantages)
    assert [row.advantage for row in credited.rows] == [0.0] * 3
    assert (credited.groups, credited.lonely_groups) == (1, 0)


def test_only_lonely_groups_give_no_rows() -> None:
    rollouts = [tree({(0,): RIGHT}), tree({(0,): RIGHT, (1,): RIGHT}, dead=((0,), (1,)), index=1)]
    credited = First().rows(rollouts, Reward(terms={"o": Outcome()}).score(rollouts, scorer), GRPO().advantages)
    assert (credited.rows, credited.groups, credited.lonely_groups) == ([], 0, 2)
