"""Step metrics of rollouts whose branches end in different rounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.algorithms.grpo import GRPO
from src.credit.process import Process
from src.rewards.base import Reward
from src.rewards.outcome import Outcome
from src.training.step_metrics import describe
from src.types import Path as TurnPath
from src.types import Problem, Rollout, Sampling, Scores, Status, Turn
from tests.conftest import run_small
from tests.integration.test_train import metrics

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


def test_a_run_continues_if_only_probes_reach_the_deepest_round(tmp_path: Path) -> None:
    """``reward=process rounds.ending=concludes``: chains that conclude leave later rounds to probes."""
    overrides = ["reward=process", "rounds=3", "rounds.ending=concludes", "rounds.responses=2", "rounds.probes=2"]
    overrides += ["train.problems=1", "train.steps=4", "train.rollouts_every=1", "seed=1"]
    overrides += ["evaluation.before=false", "evaluation.every=0", "evaluation.limit=1"]
    run = run_small(tmp_path / "run", *overrides)
    lines, probes_alone = metrics(run), 0
    assert len(lines) == 4
    for number, line in enumerate(lines, 1):
        (rollout,) = map(json.loads, (run / "rollouts" / f"step_{number:06d}.jsonl").read_text().splitlines())
        own = {turn["round"] for turn in rollout["turns"] if not turn["probe"]}
        described = {name.split("/")[1] for name in line if name.startswith("completion/")}
        assert described == {f"round_{one}" for one in own}
        probes_alone += max(turn["round"] for turn in rollout["turns"]) > max(own)
    assert probes_alone > 0
