"""NaN, infinity and rewards that are no numbers, in whole runs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from src import config as configuration
from src.rewards.base import Term
from src.train import job
from src.types import Problem, Scorer, Turn
from tests.conftest import SMALL, run_small

SCORES: dict[str, Any] = {
    "a_nan": math.nan,
    "an_inf": math.inf,
    "nothing": None,
    "text": "1",
    "list": [1.0],
    "float32": np.float32(0.5),
    "array": np.array([0.5, 0.5]),
    "tensor": torch.tensor([0.5]),
}


class Odd(Term):
    """Scores that are no numbers, on the second response of each rollout."""

    at: ClassVar[Literal["leaves", "turns"]] = "turns"
    kind: str

    def score(self, problem: Problem, turn: Turn, scorer: Scorer) -> float:
        if turn.path != (1,):
            return 0.0
        if self.kind == "raise":
            raise ZeroDivisionError("oh")
        return SCORES[self.kind]  # type: ignore[no-any-return]


def settings(kind: str) -> list[str]:
    return [f"+reward.terms.odd={{_target_: {__name__}.Odd, kind: {kind}, weight: 1.0}}", "train.steps=2"]


def launch(run: Path, *overrides: str, monkeypatch: pytest.MonkeyPatch) -> int:
    arguments = [*SMALL, "evaluation.before=false", f"hydra.run.dir={run}", *overrides]
    monkeypatch.setattr(sys, "argv", ["src.train", *arguments])
    return configuration.launch("train", job)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a_nan", "is nan, which is no finite number"),
        ("an_inf", "is inf, which is no finite number"),
        ("nothing", "is None, which is no finite number"),
        ("text", "is '1', which is no finite number"),
        ("list", "is [1.0], which is no finite number"),
        ("array", "is array([0.5, 0.5]), which is no finite number"),
        ("tensor", "is tensor([0.5000]), which is no finite number"),
        ("raise", "raised ZeroDivisionError: oh"),
    ],
)
def test_a_reward_that_is_no_number_stops_the_run_and_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    code = launch(tmp_path / "run", *settings(kind), monkeypatch=monkeypatch)
    error = capfd.readouterr().err
    assert code == 1, error
    assert "stopped: step 1, problem train-" in error
    assert f", turn 1: reward.terms.odd {said}" in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not list((tmp_path / "run").glob("checkpoints/step_*"))


def test_such_rewards_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", *settings("a_nan"), "train.on_nonfinite=skip", "evaluation.before=false")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["nonfinite"] for line in lines] == [line["problems_seen"] // line["step"] for line in lines]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert json.loads((run / "summary.json").read_text())["nonfinite"] == sum(line["nonfinite"] for line in lines)


def test_other_kinds_of_real_numbers_are_rewards(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", *settings("float32"), "evaluation.before=false")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["nonfinite"] for line in lines} == {0}
    assert lines[0]["reward/odd"] > 0


def test_weights_that_diverge_are_never_saved(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from src.training.trainer import Trainer

    def poisoned(self: Trainer, step: int) -> dict[str, Any]:
        if step == 2:
            next(iter(self.run.policy.parameters())).data.fill_(math.nan)
        return original(self, step)

    original = Trainer.step
    monkeypatch.setattr(Trainer, "step", poisoned)
    overrides = ["train.steps=4", "checkpoint.every=1", "checkpoint.keep=0", "train.on_nonfinite=skip"]
    assert launch(tmp_path / "run", *overrides, monkeypatch=monkeypatch) == 1
    error = capfd.readouterr().err
    assert "stopped: step 3, problem train-" in error
    assert "not finite" in error
    assert "Saved before the error: the checkpoint of step 2" in error
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")) == ["step_1", "step_2"]
