"""Every credit rule on a small tree, computed by hand; and the settings that a rule refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from src.credit.base import own_share, weighed
from src.credit.first import First
from src.credit.global_local import GlobalLocal
from src.credit.process import Process
from src.credit.siblings import Siblings
from src.types import Path, Problem, Rollout, Row, Sampling, Scores, Status, Turn

PROBLEM = Problem("p", "?", "7")


def rollout(paths: Sequence[Path], tree: int = 0, probes: Sequence[Path] = (), dead: Sequence[Path] = ()) -> Rollout:
    turns = [
        Turn(
            path,
            (1,),
            Sampling(9),
            tree=tree,
            probe=path in probes,
            status=Status.FAILED if path in dead else Status.DONE,
            completion=(1,),
            logprobs=(-1.0,),
        )
        for path in sorted(paths, key=lambda path: (len(path), path))
    ]
    return Rollout(PROBLEM, tuple(turns))


def scores(values: dict[Path, float], own: dict[Path, float] | None = None, prior: float = 0.0) -> Scores:
    return Scores({}, values, values, own or {}, prior)


def centred(groups: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each value minus the mean of its group."""
    return [[value - sum(group) / len(group) for value in group] for group in groups]


def advantages(rows: Sequence[Row]) -> dict[tuple[int, Path], float]:
    return {(row.tree, row.path): row.advantage for row in rows}


TREE: dict[Path, float] = {(0,): 0.5, (1,): 1.0, (0, 0): 1.0, (0, 1): 0.0, (1, 0): 1.0, (1, 1): 1.0, (1, 2): 1.0}
OWN: dict[Path, float] = {(0,): 0.2, (1,): 0.0, (0, 0): 0.1}
"""Own terms of some turns; a turn without an entry has none, which counts as 0."""


# what the rules share


def test_weights_share_one_among_the_turns_of_a_round() -> None:
    turns = rollout(list(TREE)).turns
    credited = [(turn, float(index)) for index, turn in enumerate(turns)]
    assert [row.weight for row in weighed(credited, "level")] == [1 / 2] * 2 + [1 / 5] * 5
    assert [row.weight for row in weighed(credited, "turn")] == [1.0] * 7
    assert [row.advantage for row in weighed(credited, "level")] == list(range(7))


def test_own_terms_are_compared_with_the_mean_of_the_round() -> None:
    share = own_share(rollout(list(TREE)), scores(TREE, OWN))
    assert share[0,] == pytest.approx(0.2 - 0.1)
    assert share[1,] == pytest.approx(0.0 - 0.1)
    assert share[0, 0] == pytest.approx(0.1 - 0.02)
    assert share[1, 2] == pytest.approx(0.0 - 0.02)
    assert set(share) == set(TREE)


# siblings


def test_siblings_are_compared_and_an_only_child_inherits() -> None:
    tree: dict[Path, float] = {(0,): 0.0, (1,): 1.0, (0, 0): 0.0, (1, 0): 1.0, (1, 1): 0.0}
    credited = Siblings().rows([rollout(list(tree))], [scores(tree)], centred)
    assert advantages(credited.rows) == {
        (0, (0,)): -0.5,
        (0, (1,)): 0.5,
        (0, (0, 0)): -0.5,  # inherits from (0,)
        (0, (1, 0)): 0.5,
        (0, (1, 1)): -0.5,
    }
    assert [row.weight for row in credited.rows] == [1 / 2] * 2 + [1 / 3] * 3
    assert (credited.groups, credited.lonely_groups) == (2, 0)


def test_siblings_of_several_trees_stay_apart() -> None:
    first: dict[Path, float] = {(0,): 0.0, (1,): 1.0}
    second: dict[Path, float] = {(0,): 4.0, (1,): 2.0}
    credited = Siblings().rows(
        [rollout(list(first)), rollout(list(second), tree=1)], [scores(first), scores(second)], centred
    )
    assert advantages(credited.rows) == {(0, (0,)): -0.5, (0, (1,)): 0.5, (1, (0,)): 1.0, (1, (1,)): -1.0}
    assert credited.groups == 2


def test_a_lonely_first_turn_and_the_last_live_sibling_give_nothing() -> None:
    lonely: dict[Path, float] = {(0,): 1.0, (0, 0): 1.0}
    one_died: dict[Path, float] = {(0,): 1.0, (1,): 0.0, (0, 0): 1.0}
    rollouts = [
        rollout(list(lonely)),
        rollout([*one_died, (0, 1)], tree=1, dead=[(0, 1)]),
        rollout(list(lonely), tree=2),
    ]
    credited = Siblings().rows(rollouts, [scores(lonely), scores(one_died), scores(lonely)], centred)
    assert advantages(credited.rows) == {(1, (0,)): 0.5, (1, (1,)): -0.5}
    assert (credited.groups, credited.lonely_groups) == (1, 3)


# the whole tree and the parent


def test_global_and_local_comparison_by_hand() -> None:
    credited = GlobalLocal().rows([rollout(list(TREE))], [scores(TREE, prior=0.75)], centred)
    assert advantages(credited.rows) == pytest.approx(
        {
            (0, (0,)): (2 * 0.5 - 0.75 - 0.75) / math.sqrt(2),
            (0, (1,)): (2 * 1.0 - 0.75 - 0.75) / math.sqrt(3),
            (0, (0, 0)): 2 * 1.0 - 0.75 - 0.5,
            (0, (0, 1)): 2 * 0.0 - 0.75 - 0.5,
            (0, (1, 0)): 2 * 1.0 - 0.75 - 1.0,
            (0, (1, 1)): 2 * 1.0 - 0.75 - 1.0,
            (0, (1, 2)): 2 * 1.0 - 0.75 - 1.0,
        }
    )
    assert {row.weight for row in credited.rows} == {1.0}
    assert (credited.groups, credited.lonely_groups) == (1, 0)


def test_two_rounds_with_four_leaves_a_tree_are_compared_as_in_tree_grpo() -> None:
    """A leaf against all leaves plus the leaf against its tree; a first response has the mean over its leaves."""
    leaves = {(tree, leaf): float((3 * tree + leaf) % 5 < 2) for tree in range(3) for leaf in range(4)}
    means = [sum(leaves[tree, leaf] for leaf in range(4)) / 4 for tree in range(3)]
    everywhere = sum(means) / 3
    values: dict[Path, float] = {**{(tree,): mean for tree, mean in enumerate(means)}, **leaves}
    found = advantages(GlobalLocal().rows([rollout(list(values))], [scores(values, prior=everywhere)], centred).rows)
    of_leaves = {path: 2 * value - everywhere - means[path[0]] for path, value in leaves.items()}
    assert {path: found[0, path] for path in leaves} == pytest.approx(of_leaves)
    for tree in range(3):
        assert found[0, (tree,)] == pytest.approx(sum(of_leaves[tree, leaf] for leaf in range(4)) / 4)


def test_global_and_local_comparison_with_own_terms() -> None:
    values = {path: value + OWN.get(path, 0.0) for path, value in TREE.items()}
    plain = GlobalLocal().rows([rollout(list(TREE))], [scores(TREE, prior=0.75)], centred)
    credited = GlobalLocal().rows([rollout(list(TREE))], [scores(values, OWN, 0.75)], centred)
    share = own_share(rollout(list(TREE)), scores(values, OWN))
    expected = {(0, path): value + share[path] for (_, path), value in advantages(plain.rows).items()}
    assert advantages(credited.rows) == pytest.approx(expected)


def test_a_turn_above_dead_leaves_counts_as_one_leaf() -> None:
    tree = rollout([(0,), (1,), (1, 0)], dead=[(1,), (1, 0)])
    credited = GlobalLocal().rows([tree], [scores({(0,): 1.0, (1,): 0.0}, prior=0.5)], centred)
    assert advantages(credited.rows) == {(0, (0,)): 1.0, (0, (1,)): -1.0}


def test_global_and_local_comparison_skips_lonely_trees_only() -> None:
    lonely: dict[Path, float] = {(0,): 1.0, (0, 0): 1.0, (0, 1): 0.0}
    pair: dict[Path, float] = {(0,): 1.0, (1,): 0.0}
    rollouts = [rollout(list(one), tree=index) for index, one in enumerate([lonely, pair, lonely, pair])]
    credited = GlobalLocal().rows(
        rollouts, [scores(lonely), scores(pair, prior=0.5), scores(lonely), scores(pair, prior=0.5)], centred
    )
    assert set(advantages(credited.rows)) == {(1, (0,)), (1, (1,)), (3, (0,)), (3, (1,))}
    assert (credited.groups, credited.lonely_groups) == (2, 2)


# differences of values


def chain() -> tuple[Rollout, Scores]:
    """Two chains of two rounds, with a probe from the question."""
    values: dict[Path, float] = {(0,): 0.75, (1,): 0.25, (2,): 0.5, (0, 0): 1.0, (1, 0): 0.0}
    return rollout(list(values), probes=[(2,)]), scores(values, prior=0.5)


def test_a_turn_earns_the_difference_of_the_values_around_it() -> None:
    tree, score = chain()
    credited = Process(scale="none").rows([tree], [score], centred)
    assert advantages(credited.rows) == {(0, (0,)): 0.25, (0, (1,)): -0.25, (0, (0, 0)): 0.25, (0, (1, 0)): -0.25}
    assert [row.weight for row in credited.rows] == [1 / 2] * 4
    assert (credited.groups, credited.lonely_groups) == (1, 0)


def test_differences_are_divided_by_the_deviation_of_the_batch() -> None:
    tree, score = chain()
    spread = math.sqrt(4 * 0.25**2 / 3)
    credited = Process(epsilon=0.125).rows([tree], [score], centred)
    assert advantages(credited.rows)[0, (0,)] == pytest.approx(0.25 / (spread + 0.125))
    assert advantages(credited.rows)[0, (1, 0)] == pytest.approx(-0.25 / (spread + 0.125))


def test_two_differences_have_a_deviation_and_one_has_none() -> None:
    pair = rollout([(0,), (1,)]), scores({(0,): 1.0, (1,): 0.0}, prior=0.5)
    credited = Process(epsilon=0.0).rows([pair[0]], [pair[1]], centred)
    assert [row.advantage for row in credited.rows] == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5)])
    single = rollout([(0,)]), scores({(0,): 1.0}, prior=0.5)
    assert [row.advantage for row in Process().rows([single[0]], [single[1]], centred).rows] == [0.5]


def test_equal_differences_are_not_divided_by_zero() -> None:
    tree = rollout([(0,), (1,)])
    credited = Process(epsilon=0.0).rows([tree], [scores({(0,): 1.0, (1,): 1.0}, prior=0.5)], centred)
    assert [row.advantage for row in credited.rows] == [0.5, 0.5]


def test_own_terms_join_the_difference() -> None:
    tree, score = chain()
    own: dict[Path, float] = {(0,): 0.4, (0, 0): 0.2}
    values = {path: value + own.get(path, 0.0) for path, value in score.values.items()}
    credited = Process(scale="none").rows([tree], [scores(values, own, 0.5)], centred)
    assert advantages(credited.rows) == pytest.approx(
        {(0, (0,)): 0.25 + 0.2, (0, (1,)): -0.25 - 0.2, (0, (0, 0)): 0.25 + 0.1, (0, (1, 0)): -0.25 - 0.1}
    )


def test_a_tree_without_values_is_counted_as_lonely() -> None:
    tree, score = chain()
    credited = Process().rows([tree, rollout([(0,)], tree=1)], [score, scores({})], centred)
    assert (credited.groups, credited.lonely_groups) == (1, 1)


# refused settings


def settings(
    widths: tuple[int, ...] = (4, 2),
    continuation: str = "policy",
    top_p: float = 1.0,
    temperature: float = 1.0,
    probes: int = 1,
    normalise: str = "after",
    scale: str = "group",
) -> Any:
    rounds = SimpleNamespace(
        widths=widths,
        n=len(widths),
        continuation=continuation,
        later_top_p=top_p,
        later_temperature=temperature,
        probes=probes,
    )
    return SimpleNamespace(
        rounds=rounds, reward=SimpleNamespace(normalise=normalise), algorithm=SimpleNamespace(scale=scale)
    )


@pytest.mark.parametrize("rule", [First(), Siblings(), GlobalLocal(), Process()], ids=lambda rule: type(rule).__name__)
def test_a_group_of_one_is_refused_and_of_two_is_not(rule: Any) -> None:
    assert list(rule.check_run(settings())) == list(rule.check_run(settings((2, 2)))) == []
    (error,) = rule.check_run(settings((1, 2), scale="none"))
    assert "a group of 1 " in error
    assert "never learns; use 2 or more" in error
    assert error.endswith("use 2 or more")
    (error,) = rule.check_run(settings((1, 2)))
    assert "and no standard deviation (algorithm.scale=group); use 2 or more" in error


@pytest.mark.parametrize("rule", [First(), Siblings()], ids=lambda rule: type(rule).__name__)
def test_without_rounds_there_is_nothing_to_refuse(rule: Any) -> None:
    assert list(rule.check_run(settings(()))) == []
    assert list(rule.check_run(SimpleNamespace(rounds=None, reward=None, algorithm=None))) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"continuation": "base"}, "rounds.continuation=base"),
        ({"top_p": 0.95}, "rounds.later_top_p=0.95"),
        ({"temperature": 0}, "rounds.later_temperature=0"),
    ],
)
def test_what_the_policy_did_not_sample_at_full_cannot_learn(change: dict[str, Any], text: str) -> None:
    for rule in (Siblings(), GlobalLocal(), Process()):
        (error,) = rule.check_run(settings(**change))
        assert text in error
        assert error.endswith(" credit=first")
        assert list(rule.check_run(settings((4,), **change))) == [], "one round has no later rounds"
    assert list(First().check_run(settings(**change))) == [], "later rounds do not learn"


def test_values_normalised_among_siblings_cannot_be_compared_across_rounds() -> None:
    for rule in (GlobalLocal(), Process()):
        (error,) = rule.check_run(settings(normalise="before"))
        assert error.startswith("reward.normalise=before")
        assert error.endswith("use reward.normalise=after, or credit=siblings")
    for rule in (First(), Siblings()):
        assert list(rule.check_run(settings(normalise="before"))) == []
    without = settings()
    without.reward = None
    assert list(GlobalLocal().check_run(without)) == []


def test_process_needs_probes() -> None:
    (error,) = Process().check_run(settings(probes=0))
    assert "rounds.probes=0" in error
    without = SimpleNamespace(rounds=None, reward=None, algorithm=None)
    assert list(Process().check_run(without)) == []


# values that do not belong together


@pytest.mark.parametrize("rule", [First(), Siblings(), GlobalLocal(), Process()], ids=lambda rule: type(rule).__name__)
def test_every_rollout_needs_its_own_scores(rule: Any) -> None:
    rollouts = [rollout(list(TREE)), rollout(list(TREE), tree=1)]
    assert len(rule.rows(rollouts, [scores(TREE)] * 2, centred).rows) > 0
    for number in (1, 3):
        with pytest.raises(ValueError, match="zip"):
            rule.rows(rollouts, [scores(TREE)] * number, centred)


@pytest.mark.parametrize("rule", [First(), Siblings()], ids=lambda rule: type(rule).__name__)
def test_every_value_needs_its_own_advantage(rule: Any) -> None:
    for wrong in (lambda groups: groups[:-1], lambda groups: [group[:-1] for group in groups]):
        with pytest.raises(ValueError, match="zip"):
            rule.rows([rollout(list(TREE))], [scores(TREE)], wrong)
