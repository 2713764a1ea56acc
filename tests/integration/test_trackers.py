"""What the trackers of a run hold: configuration, every step, and whole trees, also over a resume."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from src.config import compose, resume
from src.tracking.names import name
from src.train import train
from src.types import InputError
from tests.conftest import run_small
from tests.helpers import wandb_files

TRACKED = ["train.steps=2", "evaluation.before=false", "evaluation.limit=1", "train.rollouts_every=1"]
TENSORBOARD = importlib.util.find_spec("tensorboard") is not None


def test_the_offline_file_of_wandb_holds_the_whole_run_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_TAGS", "one,two")
    artifacts = ["tracking=wandb", "tracking.mode=offline", "tracking.artifacts=true"]
    run = run_small(tmp_path / "run", *TRACKED, *artifacts)
    folder, config = resume([f"resume={run}", "train.steps=3"])
    train(config, folder)
    found = wandb_files.content(run)
    first, second = found["runs"]
    assert first["run_id"] == second["run_id"]
    assert (first["project"], first["job_type"], first["tags"]) == ("motif", "train", ["one", "two"])
    assert first["display_name"] == "rounds-3_reward-outcome_credit-first_algorithm-grpo_seed-0"
    assert found["config"]["choices"]["reward"] == "outcome"
    assert found["config"]["rounds"]["n"] == 3
    assert found["axes"]["train/*"] == found["axes"]["rollout/*"] == "problems"
    assert found["axes"]["eval/*"] == "tokens"
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == sorted(found["history"]) == [1, 2, 3]
    for line in metrics:
        logged = found["history"][line["step"]]
        assert {"train/loss", "rollout/reward", "eval/validation/accuracy"} <= logged.keys()
        for key in line.keys() - {"step", "problems_seen"}:
            assert logged[name(key)] == line[key], key
        assert logged["problems"] == line["problems_seen"]
        assert logged["tokens"] == sum(one["tokens/generated"] for one in metrics[: line["step"]])
    assert len(found["tables"]) == 3
    for step, table in enumerate(found["tables"], 1):
        trees = [json.loads(line) for line in (run / "rollouts" / f"step_{step:06d}.jsonl").read_text().splitlines()]
        rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        assert len(rows) == sum(len(tree["turns"]) for tree in trees)
        assert {row["round"] for row in rows} == {1, 2, 3}
        turns = [(tree["problem"], turn) for tree in trees for turn in tree["turns"]]
        for row, (problem, turn) in zip(rows, turns, strict=True):
            assert (row["step"], row["gold"], row["text"]) == (step, problem["answer"], turn["text"])
            assert (row["advantage"], row["tokens"]) == (turn["advantage"], turn["tokens"])
            assert row["reward/outcome"] == turn["scores"]["outcome"]
        assert any(row["answer"] is not None for row in rows)
    assert list(run.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.skipif(TENSORBOARD, reason="for where tensorboard is not installed")
def test_tensorboard_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match=r"tracking=tensorboard: tensorboard is not installed; pip install"):
        compose("train", ["tracking=[none,tensorboard]"])


def test_a_list_of_trackers_is_one_option(tmp_path: Path) -> None:
    config = compose("train", ["tracking=[none,wandb]", "tracking.trackers.wandb.project=mine"])
    assert list(config.settings.tracking.trackers) == ["none", "wandb"]
    assert config.settings.tracking.trackers["wandb"].project == "mine"
    assert config.choices["tracking"] == "none+wandb"
    with pytest.raises(InputError, match="tracking has no option"):
        compose("train", ["tracking=[none,nonsense]"])
    several = ["tracking=[none,wandb]", "tracking.trackers.wandb.mode=offline"]
    run = run_small(tmp_path / "run", *TRACKED, "train.steps=1", *several)
    assert wandb_files.logged_steps(run) == [1]
    folder, config = resume([f"resume={run}", "train.steps=2", "tracking=[wandb,none]"])
    train(config, folder)
    assert wandb_files.logged_steps(run) == [1, 2]
    assert len({one["run_id"] for one in wandb_files.content(run)["runs"]}) == 1


@pytest.mark.skipif(not TENSORBOARD, reason="tensorboard is not installed; pip install 'motif-lab[tensorboard]'")
def test_tensorboard_holds_every_step_over_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_small(tmp_path / "run", *TRACKED, "tracking=[none,tensorboard]")
    folder, config = resume([f"resume={run}", "train.steps=3"])
    train(config, folder)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = events.Scalars("train/loss")
    assert [one.step for one in logged] == [1, 2, 3]
    assert [one.value for one in logged] == pytest.approx([line["loss"] for line in metrics])
    assert any(name.startswith("eval/trained/chain-sum/") for name in events.Tags()["scalars"])
