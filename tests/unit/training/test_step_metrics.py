"""Step metrics of rollouts whose branches end in different rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from src.algorithms.grpo import GRPO
from src.credit.base import Credited
from src.credit.process import Process
from src.rewards.base import Reward
from src.rewards.outcome import Outcome
from src.training.step_metrics import describe
from src.types import Path as TurnPath
from src.types import Problem, Rollout, Row, Sampling, Scores, Status, Turn

RIGHT, WRONG = "<reasoning>x</reasoning><answer>\\boxed{7}</answer>", "-"


def turn(path: TurnPath, text: str, probe: bool = False, tokens: int = 2) -> Turn:
    status = Status.DONE if text == RIGHT else Status.TRUNCATED
    logprobs = (-0.5,) * tokens
    return Turn(
        path,
        (1,),
        Sampling(9),
        probe=probe,
        status=status,
        text=text,
        completion=(3,) * tokens,
        logprobs=logprobs,
        model_logprobs=logprobs,
    )


def scored(*turns: Turn) -> tuple[Rollout, Scores]:
    rollout = Rollout(Problem("p", "?", "7"), turns)
    reward = Reward(terms={"outcome": Outcome()})
    return rollout, reward.score([rollout], lambda problem, text: float(text == RIGHT))[0]


def test_a_round_that_only_probes_reach_has_no_metrics() -> None:
    """Both chains have concluded in round 1 or 2, and only the probes go on to round 3."""
    rollout, scores = scored(
        turn((0,), WRONG),
        turn((1,), RIGHT, tokens=4),
        turn((2,), WRONG, probe=True),
        turn((0, 0), RIGHT),
        turn((0, 1), WRONG, probe=True),
        turn((2, 0), WRONG, probe=True),
        turn((0, 1, 0), RIGHT, probe=True, tokens=5),
        turn((2, 0, 0), WRONG, probe=True, tokens=7),
    )
    credited = Process().rows([rollout], [scores], GRPO().advantages)
    assert {row.path for row in credited.rows} == {(0,), (1,), (0, 0)}
    found = describe([rollout], [scores], credited)
    rounds = {name for name in found if name.startswith("completion/")}
    assert {name.split("/")[1] for name in rounds} == {"round_1", "round_2"}
    assert found["completion/round_1/mean_tokens"] == 3  # mean of 2 and 4; probes are excluded
    assert found["completion/round_1/truncated"] == 0.5
    assert found["completion/round_2/mean_tokens"] == 2
    assert found["completion/round_2/truncated"] == 0.0
    assert found["completion/round_2/logprob"] == -0.5
    assert found["tokens/generated"] == 8 * 2 + 2 + 3 + 5  # all turns, including probes
    assert found["tokens/trained"] == 2 + 4 + 2
    assert found["accuracy"] == found["reward"] == 1.0  # (0,) by its probe; (1,) by its own answer


def test_metrics_of_a_round_cover_only_the_rollouts_that_reach_it() -> None:
    ended, scores = scored(turn((0,), RIGHT), turn((1,), WRONG))
    longer, more = scored(turn((0,), WRONG), turn((1,), WRONG), turn((0, 0), RIGHT, tokens=6))
    credited = Process().rows([ended, longer], [scores, more], GRPO().advantages)
    found = describe([ended, longer], [scores, more], credited)
    assert found["completion/round_2/mean_tokens"] == 6
    assert found["completion/round_2/well_formed"] == 1.0
    assert found["accuracy"] == pytest.approx((1 + 0 + 1 + 0) / 4)


def group(advantages: list[float], tree: int) -> list[Row]:
    return [Row((1,), (2,), (-1.0,), 1.0, advantage, 1.0, tree, (index,)) for index, advantage in enumerate(advantages)]


def test_groups_of_equal_advantages_are_a_share_of_the_compared_groups() -> None:
    rollout, scores = scored(turn((0,), RIGHT), turn((1,), WRONG))
    rows = [*group([0.5, -0.5], 0), *group([0.0, 0.0, 0.0], 1), *group([1.0, 1.0], 2), *group([0.7], 3)]
    found = describe([rollout], [scores], Credited(rows, groups=3, lonely_groups=2))
    assert found["advantage/zero_std_groups"] == pytest.approx(2 / 3)  # the group of one is not compared
    assert found["advantage/lonely_groups"] == 2
    assert describe([rollout], [scores], Credited([], 0, 1))["advantage/zero_std_groups"] == 1.0


def test_the_share_of_cut_progress_is_told_by_round() -> None:
    cut = replace(turn((0, 0), RIGHT), carried_cut=True)
    rollout, scores = scored(turn((0,), RIGHT), turn((1,), WRONG), cut, turn((1, 0), WRONG))
    found = describe([rollout], [scores], Credited([], 0, 1))
    assert (found["completion/round_1/carried_cut"], found["completion/round_2/carried_cut"]) == (0.0, 0.5)


def test_every_rollout_needs_its_own_scores() -> None:
    rollout, scores = scored(turn((0,), RIGHT))
    with pytest.raises(ValueError, match="zip"):
        describe([rollout, rollout], [scores], Credited([], 0, 1))
