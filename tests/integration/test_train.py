"""Training end to end: files, determinism, resuming, learning, command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from safetensors.numpy import load_file

from src import config as configuration
from src.algorithms.grpo import GRPO
from src.config import ROOT
from src.evaluation.statistics import paired_difference
from src.training.trainer import Trainer
from src.types import InputError
from src.utils.signals import Stopped
from tests.conftest import SMALL, run_small

TIMES = ("time/", "tokens_per_second", "traffic_bytes")


def metrics(run: Path) -> list[dict[str, Any]]:
    """Metrics of all steps, without timings."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(TIMES)} for line in lines]


def adapter(run: Path) -> dict[str, bytes]:
    """Tensors of the newest adapter, as bytes."""
    name = (run / "checkpoints" / "latest").read_text().strip()
    tensors = load_file(run / "checkpoints" / name / "adapter" / "adapter_model.safetensors")
    return {key: tensor.tobytes() for key, tensor in tensors.items()}


def stop_once(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Stop a run, as a signal does, when it first calls this method of the trainer."""
    honest = getattr(Trainer, method)

    def stopped(self: Trainer, _: Any) -> Any:
        monkeypatch.setattr(Trainer, method, honest)
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(Trainer, method, stopped)


def start(run: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "src.train", *SMALL, f"hydra.run.dir={run}", *overrides]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def resume(run: Path, *overrides: str) -> None:
    from src.train import train

    folder, config = configuration.resume([f"resume={run}", *overrides])
    configuration.store(folder, config)
    train(config, folder)


def wait_for_steps(process: subprocess.Popen[str], run: Path, count: int) -> None:
    for _ in range(1200):
        if (run / "metrics.jsonl").exists() and len((run / "metrics.jsonl").read_text().splitlines()) >= count:
            return
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f"the run did not reach step {count}")


def test_the_run_directory_has_the_documented_content(small_run: Path) -> None:
    steps = metrics(small_run)
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert [line["problems_seen"] for line in steps] == [2, 4, 6, 8]
    expected = {"reward", "reward/outcome", "reward/format", "accuracy", "advantage/zero_std_groups", "loss", "kl"}
    expected |= {"entropy", "clip_ratio", "grad_norm", "lr", "tokens/generated", "tokens/trained"}
    for number in (1, 2, 3):
        expected |= {f"completion/round_{number}/{name}" for name in ("mean_tokens", "truncated", "well_formed")}
    assert expected <= set(steps[0])
    summary = json.loads((small_run / "summary.json").read_text())
    names = [("chain-sum", split, rounds) for split in ("easy", "hard") for rounds in (1, 3)]
    for part in ("before", "after", "change"):
        assert [(one["benchmark"], one["split"], one["rounds"]) for one in summary["evaluations"][part]] == names
    assert summary["reported_step"] == 4
    assert summary["complete"] is True
    assert summary["seed"] == 0
    assert len(summary["base_sha256"]) == 64
    tree = json.loads((small_run / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
    assert len(tree["turns"]) == 4 + 4 * 2 + 4 * 2
    first = [turn for turn in tree["turns"] if turn["round"] == 1]
    assert all(turn["advantage"] is not None for turn in first)
    values = [turn["value"] for turn in first]
    below = [
        [turn["correct"] for turn in tree["turns"] if turn["path"][:1] == one["path"] and turn["round"] == 3]
        for one in first
    ]
    correct = [sum(leaves) / len(leaves) for leaves in below]
    assert [turn["correct"] for turn in first] == pytest.approx(correct)
    assert values == pytest.approx([turn["correct"] + 0.1 * turn["scores"]["format"] for turn in first])


def test_runs_with_the_same_seed_are_bit_identical(small_run: Path, tmp_path: Path) -> None:
    again = run_small(tmp_path / "again", "train.steps=4", "seed=0")
    other = run_small(tmp_path / "other", "train.steps=4", "seed=1")
    assert metrics(again) == metrics(small_run)
    assert adapter(again) == adapter(small_run)
    assert adapter(other) != adapter(small_run)
    assert [line["reward"] for line in metrics(other)] != [line["reward"] for line in metrics(small_run)]
    evaluation = "evaluation/step_4/chain-sum-easy_rounds3.jsonl"
    assert (again / evaluation).read_bytes() == (small_run / evaluation).read_bytes()


def stopped(run: Path, copy: Path) -> Path:
    """A copy of a run as if it had been killed at its end, before its summary."""
    shutil.copytree(run, copy)
    (copy / "summary.json").unlink()
    return copy


def test_a_run_with_a_damaged_newest_checkpoint_resumes_bit_for_bit(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(small_run, tmp_path / "run")
    (run / "checkpoints" / "step_4" / "trainer_state.safetensors").write_bytes(b"")
    resume(run)
    assert "the checkpoint of step 4 is damaged" in capsys.readouterr().out
    assert metrics(run) == metrics(small_run)
    assert adapter(run) == adapter(small_run)
    assert (run / "checkpoints" / "damaged_step_4" / "trainer_state.safetensors").read_bytes() == b""


def test_lost_metrics_are_filled_and_lost_rollouts_are_said(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(small_run, tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    (run / "rollouts" / "step_000001.jsonl").write_text('{"problem"')
    (run / ".model.abcd1234").mkdir()
    (run / "checkpoints" / ".step_5.tmp").mkdir()
    resume(run)
    said = capsys.readouterr().out
    assert "the lines of steps 1, 2, 3 and 1 more are missing or damaged; filled from the checkpoint's copy" in said
    assert "rollouts: the files of steps [1] are missing or damaged" in said
    assert (run / "metrics.jsonl").read_bytes() == (small_run / "metrics.jsonl").read_bytes()
    assert not (run / ".model.abcd1234").exists()
    assert not (run / "checkpoints" / ".step_5.tmp").exists()


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_killed_run_resumes_bit_for_bit(small_run: Path, tmp_path: Path, steps: int) -> None:
    run = tmp_path / "killed"
    process = start(run, "train.steps=4", "seed=0", "evaluation.before=true")
    wait_for_steps(process, run, steps)
    process.kill()
    process.wait()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')  # simulates a kill in the middle of a write
    resume(run)
    assert metrics(run) == metrics(small_run)
    assert adapter(run) == adapter(small_run)
    finished = json.loads((run / "summary.json").read_text())["evaluations"]
    assert finished == json.loads((small_run / "summary.json").read_text())["evaluations"]


def test_a_signal_saves_a_checkpoint_and_prints_the_resume_command(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    process = start(run, "train.steps=4", "seed=0", "checkpoint.every=4")
    wait_for_steps(process, run, 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    assert f"python -m src.train resume={run}" in output.replace("\n", "")
    resume(run)
    assert metrics(run) == metrics(small_run)
    assert adapter(run) == adapter(small_run)


def test_resume_refuses_other_folders_and_overrides(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        configuration.resume([f"resume={tmp_path}"])
    with pytest.raises(InputError, match=r"optimizer.lr=1.*keeps its configuration") as caught:
        configuration.resume([f"resume={small_run}", "optimizer.lr=1", "rounds=5"])
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError, match="complete"):
        configuration.resume([f"resume={small_run}"])


def test_resume_refuses_an_edited_configuration(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "evaluation.before=false")
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    config.optimizer.lr = 0.5
    OmegaConf.save(config, run / ".hydra" / "config.yaml")
    with pytest.raises(InputError, match=r"optimizer\.lr was 0\.0001 .* is 0\.5"):
        resume(run, "train.steps=3")


def test_more_steps_continue_a_complete_run(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "evaluation.before=false")
    resume(run, "train.steps=3")
    assert [line["step"] for line in metrics(run)] == [1, 2, 3]


def test_keep_best_reports_the_best_validation_step(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "train.steps=3", "evaluation.keep_best=true", "evaluation.before=false")
    accuracies = [line["validation/accuracy"] for line in metrics(run)]
    best = accuracies.index(max(accuracies)) + 1
    summary = json.loads((run / "summary.json").read_text())
    chosen = summary["best"]
    assert (chosen["step"], chosen["accuracy"]) == (best, max(accuracies))
    assert chosen["optimism"] == chosen["accuracy"] - chosen["fresh_accuracy"]
    sides = ([[right] for right in chosen[part]] for part in ("fresh_per_problem", "per_problem"))
    paired = paired_difference(*sides)
    assert paired.estimate == pytest.approx(chosen["optimism"])
    assert (chosen["optimism_low"], chosen["optimism_high"]) == (paired.low, paired.high)
    assert {path.name for path in (run / "evaluation").iterdir()} == {f"step_{best}", "step_3"}
    assert {one["step"] for one in summary["evaluations"]["after"]} == {best}
    assert {one["step"] for one in summary["evaluations"].get("last", [{"step": 3}])} == {3}
    assert ("last" in summary["evaluations"]) == (best != 3)


def test_weights_before_training_are_kept_if_no_later_ones_validate_better(tmp_path: Path) -> None:
    harmful = ["train.steps=3", "evaluation.keep_best=true", "evaluation.at_start=true", "optimizer.lr=0.5"]
    run = run_small(tmp_path / "run", *harmful, "optimizer.warmup=0")
    first, *later = metrics(run)
    assert (first["step"], first["problems_seen"], first["validation/accuracy"] > 0) == (0, 0, True)
    assert all(line["validation/accuracy"] < first["validation/accuracy"] for line in later)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["best"]["step"], summary["reported_step"]) == (0, 0)
    for before, after in zip(*(summary["evaluations"][part] for part in ("before", "after")), strict=True):
        assert after["per_problem"] == before["per_problem"]  # the same weights and random numbers
    assert {change["estimate"] for change in summary["evaluations"]["change"]} == {0.0}
    assert {one["step"] for one in summary["evaluations"]["last"]} == {3}


def test_a_validation_before_training_changes_nothing_else_and_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["train.steps=2", "evaluation.before=false"]
    without = metrics(run_small(tmp_path / "without", *overrides))
    at_start = [*overrides, "evaluation.at_start=true"]
    whole = metrics(run_small(tmp_path / "whole", *at_start))

    def unbanded(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:  # a band covers all validations so far
        return [{key: value for key, value in line.items() if "band" not in key} for line in lines]

    assert unbanded(without) == unbanded(whole[1:])
    stop_once(monkeypatch, "step")
    run = tmp_path / "run"
    with pytest.raises(SystemExit):
        run_small(run, *at_start)
    assert [line["step"] for line in metrics(run)] == [0]
    resume(run)
    assert metrics(run) == whole


def test_the_optimism_of_greedy_answers_is_not_measurable(tmp_path: Path) -> None:
    greedy = ["evaluation.temperature=0", "evaluation.samples=1", "evaluation.before=false"]
    run = run_small(tmp_path / "run", "train.steps=2", "evaluation.keep_best=true", *greedy)
    chosen = json.loads((run / "summary.json").read_text())["best"]
    assert chosen["optimism"] is None
    assert "fresh answers would be the same answers" in chosen["not_measurable"]
    assert "fresh_accuracy" not in chosen


def test_a_stop_after_the_best_weights_are_loaded_changes_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last weights are evaluated beside the best ones, also after a resume."""
    overrides = ["train.steps=3", "evaluation.keep_best=true", "evaluation.before=false", "optimizer.lr=0.05"]
    whole = run_small(tmp_path / "whole", *overrides)
    assert json.loads((whole / "summary.json").read_text())["best"]["step"] < 3
    stop_once(monkeypatch, "optimism")
    run = tmp_path / "run"
    with pytest.raises(SystemExit):
        run_small(run, *overrides)
    resume(run)
    same = [json.loads((one / "summary.json").read_text()) for one in (run, whole)]
    assert same[0]["best"] == same[1]["best"]
    assert same[0]["evaluations"] == same[1]["evaluations"]


def test_immediate_reward_samples_the_first_round_only(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "reward=immediate", "train.steps=1", "evaluation.before=false")
    tree = json.loads((run / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
    assert [turn["round"] for turn in tree["turns"]] == [1, 1, 1, 1]


LEARNING = ["rounds=1", "train.problems=8", "rounds.responses=8", "train.steps=16", "optimizer.lr=1e-3"]
LEARNING += ["optimizer.warmup=0", "benchmark.train_size=64", "evaluation.before=false", "evaluation.every=0"]
LEARNING += ["train.threads=2", "checkpoint.every=100"]


def gain(run: Path) -> float:
    """Mean reward of the last four steps minus that of the first four."""
    rewards = [line["reward"] for line in metrics(run)]
    return sum(rewards[-4:]) / 4 - sum(rewards[:4]) / 4


def test_training_raises_the_reward_and_flipping_advantages_lowers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gain(run_small(tmp_path / "right", *LEARNING)) > 0.05
    honest = GRPO.advantages

    def flipped(self: GRPO, values: Sequence[Sequence[float]]) -> list[list[float]]:
        return [[-advantage for advantage in group] for group in honest(self, values)]

    monkeypatch.setattr(GRPO, "advantages", flipped)
    assert gain(run_small(tmp_path / "wrong", *LEARNING)) < -0.05


def command(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, env=environment
    )


@pytest.mark.slow
def test_a_sweep_runs_every_job_once(tmp_path: Path) -> None:
    overrides = ["-m", "rounds=1,3", "reward=outcome,immediate", *SMALL, "train.steps=1", "evaluation.before=false"]
    done = command("src.train", *overrides, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = sorted(path.parent for path in tmp_path.glob("*/summary.json"))
    assert len(jobs) == 4
    chosen = [OmegaConf.load(job / ".hydra" / "config.yaml") for job in jobs]
    combinations = {(config.rounds.n, next(iter(config.reward.terms))) for config in chosen}
    assert combinations == {(1, "outcome"), (1, "immediate"), (3, "outcome"), (3, "immediate")}
    assert not any('"' in job.name or "'" in job.name for job in jobs)
    again = command("src.train", *overrides, f"hydra.sweep.dir={tmp_path}")
    assert again.stdout.count("complete, skipped") == 4, again.stdout + again.stderr


def test_an_invalid_configuration_exits_with_code_2_and_creates_no_directory(tmp_path: Path) -> None:
    done = command("src.train", "rounds=0", "nonsense=1", "optimizer.lr=0", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert all(text in done.stderr for text in ("rounds.n=0", "nonsense", "optimizer.lr=0"))
    assert not (tmp_path / "run").exists()


def test_evaluate_a_run(small_run: Path) -> None:
    done = command("src.evaluate", f"run={small_run}", "rounds=2", "benchmark.test_size=4", "evaluation.samples=2")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((small_run / "evaluation" / "step_4" / "chain-sum-easy_rounds2.json").read_text())
    records = (small_run / "evaluation" / "step_4" / "chain-sum-easy_rounds2.jsonl").read_text().splitlines()
    assert len(records) == 4 * 2
    assert summary["accuracy"] == sum(json.loads(record)["correct"] for record in records) / 8
    assert all(len(json.loads(record)["texts"]) == 2 for record in records)


def test_solve_prints_every_round_and_the_answer(small_run: Path) -> None:
    question = "question='State the final answer to the following arithmetic problem: 4 - 9 + 3 ='"
    done = command("src.solve", f"run={small_run}", question, "rounds=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"round {number} of 3" in done.stdout for number in (1, 2, 3))
    assert done.stdout.splitlines()[-1].startswith("answer: ")


def test_a_question_longer_than_the_context_is_refused() -> None:
    done = command("src.solve", "question='" + "1 + " * 600 + "1'")
    assert done.returncode == 2
    assert "model.context" in done.stderr


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "job"]])
def test_help_does_not_import_heavy_libraries(flag: list[str]) -> None:
    done = command("src.train", *flag)
    assert done.returncode == 0
    assert "rounds" in done.stdout
    script = (
        "import atexit, runpy, sys; sys.argv = ['src.train', *sys.argv[1:]]\n"
        "atexit.register(lambda: print('HEAVY', {'torch', 'transformers', 'wandb'} & set(sys.modules)))\n"
        "runpy.run_module('src.train', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script, *flag], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "HEAVY set()" in done.stdout


def test_wandb_runs_offline_into_the_run_directory(tmp_path: Path) -> None:
    run = run_small(tmp_path / "run", "tracking=wandb", "train.steps=1", "evaluation.before=false")
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))


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
