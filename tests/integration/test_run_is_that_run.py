"""``run=<run dir>`` uses that run's weights, settings and evaluations; every change is recorded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import src.evaluation.loop
import src.run
import src.training.trainer
from src.config import ROOT, compose, overlay, recorded
from src.evaluate import evaluate
from src.evaluation.results import Evaluated
from src.export import export
from src.models.loading import load_policy
from src.models.settings import adapter_folder
from src.solve import solve
from src.types import InputError
from tests.conftest import run_small
from tests.helpers import markdown_tables

LEARNING = ["train.steps=2", "optimizer.lr=3e-3", "optimizer.warmup=0", "evaluation.every=0", "evaluation.before=false"]
"""Two steps that change the weights noticeably, with only the final evaluation."""

CALCULATE = "{task: basic_arithmetic, min_digits: 1, max_digits: 1, operators: ['+'], allow_parentheses: false}"

SETTINGS = {
    "carries every progress": ["rounds=3", "rounds/carry=history"],
    "carries one message": ["rounds=3", "rounds/carry=tail"],
    "ends when it concludes": ["rounds=3", "rounds.ending=concludes"],
    "searches": ["rounds=2", "rounds/search=vote", "rounds.probes=1"],
    "has budgets of its own": ["rounds.first_tokens=30", "rounds.later_tokens=20", "rounds.progress_tokens=9"],
    "stops at the closing tag": ["rounds.stop_at_answer=true", "rounds.keep=head"],
    "has a system prompt": ["model.prompts.system=be brief"],
    "asks a split without its system prompt": ["model.prompts.system=be brief", "evaluation.no_system=[hard]"],
    "has a short context": ["model.context=256"],
    "computes in half precision": ["model.dtype=bfloat16"],
    "trains all weights": ["model.lora=null", "optimizer.lr=1e-4"],
    "has a small adapter": ["model.lora.r=4", "model.lora.targets=[q_proj,v_proj]"],
    "samples without compiled code": ["engine.native=false", "engine.max_batch_tokens=700"],
    "answers greedily": ["evaluation.temperature=0", "evaluation.samples=1"],
    "samples from a nucleus": ["evaluation.temperature=0.7", "evaluation.top_p=0.8", "evaluation.samples=3"],
    "evaluates at other rounds": ["evaluation.rounds=[4,2]"],
    "has few test problems": ["benchmark.test_size=3", "evaluation.limit=null"],
    "has other seeds": ["seed=5", "benchmark.seed=7"],
    "has perturbed splits": ["benchmark.perturb=[typos]"],
    "has a split of another task": [f"+benchmark.tests.calculate={CALCULATE}"],
    "is judged by two verifiers": ["verifier=math", "evaluation.also=[published]"],
    "follows a published scheme": ["experiment=delethink"],
}


def contents(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def evaluated(run: Path, *overrides: str) -> list[dict[str, Any]]:
    """Summaries of ``python -m src.evaluate run=<run> <overrides>``."""
    return evaluate(overlay("evaluate", [f"run={run}", *overrides]), run)


def after(run: Path) -> list[dict[str, Any]]:
    """Final evaluations in the run's summary."""
    found: list[dict[str, Any]] = json.loads((run / "summary.json").read_text())["evaluations"]["after"]
    return found


@pytest.fixture
def nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("an evaluation was sampled again")

    with monkeypatch.context() as patch:
        patch.setattr(src.evaluation.loop, "evaluate", forbidden)
        yield


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_is_evaluated_with_its_own_settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_small(tmp_path / "run", *LEARNING, *SETTINGS[name])
    own, folder = contents(run), run / "evaluation" / "step_2"
    with monkeypatch.context() as patch:
        patch.setattr(src.evaluation.loop, "evaluate", None)  # sampling would raise an error
        found = evaluated(run)
    assert found == after(run)
    assert contents(run) == own
    for record in after(run):
        assert record["changed"] == {}
        assert record["decided_by"]["weights"]["trained"] is not None
    records = {key: content for key, content in own.items() if key.startswith("evaluation/")}
    assert len([key for key in records if key.endswith(".json")]) == len(found) >= 2
    shutil.rmtree(folder)
    assert evaluated(run) == found
    assert contents(run) == own  # all summaries and records are bit-identical


@pytest.mark.slow
def test_every_tested_setting_changes_the_records(tmp_path: Path) -> None:
    """Otherwise the test above could pass with the wrong settings."""
    run = run_small(tmp_path / "run", *LEARNING)
    # many samples, since half precision rarely changes an answer
    many = ["evaluation.rounds=[3]", "evaluation.samples=16", "evaluation.limit=null"]

    def records(*overrides: str) -> bytes:
        key = evaluated(run, *many, *overrides)[0]["key"]
        (file,) = (run / "evaluation" / "step_2").glob(f"chain-sum-easy_rounds3_{key[:8]}.jsonl")
        return file.read_bytes()

    plain = records()
    others = [
        ["rounds/carry=history"],
        ["rounds/carry=tail"],
        ["rounds.ending=concludes"],
        ["rounds.later_tokens=20"],
        ["rounds.stop_at_answer=true"],
        ["model.prompts.system=be brief"],
        ["model.dtype=bfloat16"],
        ["evaluation.temperature=0.7"],
        ["evaluation.top_p=0.8"],
        ["seed=5"],
        ["benchmark.seed=7"],
    ]
    assert [overrides for overrides in others if records(*overrides) == plain] == []


def test_the_command_reproduces_the_records_in_another_process(small_run: Path, tmp_path: Path) -> None:
    """It uses the run's number of threads (one), not the default (one per core)."""
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    own = {name: content for name, content in contents(run).items() if name.startswith("evaluation/step_4/")}
    shutil.rmtree(run / "evaluation" / "step_4")
    done = subprocess.run(
        [sys.executable, "-m", "src.evaluate", f"run={run}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {name: content for name, content in contents(run).items() if name.startswith("evaluation/step_4/")}
    asked = {f"chain-sum-{split}_rounds{rounds}" for split in ("easy", "hard") for rounds in (1, 3)}
    assert {Path(name).stem for name in made} == asked
    assert made == {name: content for name, content in own.items() if Path(name).stem in asked}


# changes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small(tmp_path_factory.mktemp("runs") / "made", *LEARNING, "rounds=3")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, to write evaluations into."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


CHANGES = {
    "rounds=5": {"rounds.n": (3, 5), "evaluation.rounds": ([1, 3], [1, 5])},
    "evaluation.samples=1": {"evaluation.samples": (2, 1)},
    "rounds/carry=none": {"rounds.carry._target_": ("src.rounds.carry.answer.Answer", "src.rounds.carry.none.Nothing")},
    "rounds/carry=tail": {
        "rounds.carry._target_": ("src.rounds.carry.answer.Answer", "src.rounds.carry.tail.Tail"),
        "rounds.carry.head": (None, 0.0244140625),
    },
    "model.context=256": {"model.context": (512, 256), "rounds.context": (512, 256)},
    "seed=9": {"seed": (0, 9)},
}


@pytest.mark.parametrize("override", CHANGES)
def test_changes_are_recorded_with_both_values(run: Path, override: str) -> None:
    own = contents(run)
    found = evaluated(run, override)
    named = {key: {"run": was, "here": now} for key, (was, now) in CHANGES[override].items()}
    new = [summary for summary in found if summary["key"] not in {record["key"] for record in after(run)}]
    assert {(summary["split"], summary["rounds"]) for summary in new} == {
        (split, rounds)
        for split in ("easy", "hard")
        for rounds in ([5] if override == "rounds=5" else [1, 3])  # one round is not affected
    }
    for summary in new:
        assert summary["changed"] == named
        (file,) = [
            file
            for file in (run / "evaluation" / "step_2").glob("*.json")
            if json.loads(file.read_text())["key"] == summary["key"]
        ]
        assert json.loads(file.read_text()) == summary
        records = file.with_suffix(".jsonl").read_text().splitlines()
        assert len(records) == summary["problems"] * summary["samples"]
        assert sum(json.loads(record)["correct"] for record in records) / len(records) == summary["accuracy"]
    now = contents(run)
    assert {name: now[name] for name in own} == own  # existing files are unchanged
    assert len(now) == len(own) + 2 * len(new)
    assert evaluated(run, override) == found
    assert contents(run) == now


@pytest.mark.parametrize("override", ["rounds=3", "evaluation.samples=2", "rounds/carry=answer", "seed=0", "threads=2"])
@pytest.mark.usefixtures("nothing_is_sampled")
def test_an_override_with_the_runs_own_value_is_no_change(run: Path, override: str) -> None:
    own = contents(run)
    assert overlay("evaluate", [f"run={run}", override]).changed == {}
    assert evaluated(run, override) == after(run)
    assert contents(run) == own


def test_evaluations_with_different_changes_have_separate_files(run: Path) -> None:
    own, seen = contents(run), set[str]()
    for temperature in (0.5, 0.6, 0.7):
        before = contents(run)
        found = evaluated(run, "evaluation.rounds=[3]", f"evaluation.temperature={temperature}")
        seen |= {summary["key"] for summary in found}
        assert {name: contents(run)[name] for name in before} == before
    assert len(seen) == 6
    names = [name.removeprefix("evaluation/step_2/") for name in sorted(set(contents(run)) - set(own))]
    assert len(names) == 2 * 6
    assert all(re.fullmatch(r"chain-sum-(easy|hard)_rounds3_[0-9a-f]{8}\.jsonl?", name) for name in names)


def test_evaluations_of_older_versions_are_not_changed(run: Path) -> None:
    """They have no key, so they are neither found nor overwritten."""
    folder = run / "evaluation" / "step_2"
    for file in folder.glob("*.json"):
        summary = json.loads(file.read_text())
        file.write_text(json.dumps({name: summary[name] for name in ("accuracy", "low", "high", "samples", "rounds")}))
    older = contents(folder)
    found = evaluated(run)
    assert found == after(run)
    now = contents(folder)
    assert {name: now[name] for name in older} == older
    assert len(now) == 2 * len(older)
    for summary in found:
        name = f"chain-sum-{summary['split']}_rounds{summary['rounds']}"
        assert now[f"{name}_{summary['key'][:8]}.jsonl"] == older[f"{name}.jsonl"]


@pytest.mark.parametrize(("overrides", "expected"), [([], 1), (["threads=2"], 2)])
def test_an_evaluation_uses_the_runs_number_of_threads(
    run: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], expected: int
) -> None:
    """Another number of threads may change the last bits."""
    honest, before, counts = src.evaluation.loop.evaluate, torch.get_num_threads(), set[int]()

    def noted(*arguments: Any, **options: Any) -> Any:
        counts.add(torch.get_num_threads())
        return honest(*arguments, **options)

    monkeypatch.setattr(src.evaluation.loop, "evaluate", noted)
    torch.set_num_threads(3)
    try:
        evaluated(run, "evaluation.rounds=[2]", *overrides)
    finally:
        torch.set_num_threads(before)
    assert counts == {expected}


@pytest.mark.parametrize("override", ["model.lora.r=8", "model.lora=null", "model=qwen2.5-0.5b"])
def test_other_weights_than_the_runs_are_refused(made: Path, override: str) -> None:
    with pytest.raises(InputError, match=r"model\.(lora|name).*: run=.* was trained with .* drop the override"):
        overlay("evaluate", [f"run={made}", override])


# the best checkpoint


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps whose first one has the best validation accuracy; its step checkpoint is already deleted."""
    accuracies = iter([0.75, 0.25, 0.5, 0.5])  # the last one: fresh answers of the best weights
    honest = src.training.trainer.evaluate

    def told(*arguments: Any, **options: Any) -> tuple[Evaluated, list[dict[str, Any]]]:
        result, records = honest(*arguments, **options)
        return Evaluated({**result.summary, "accuracy": next(accuracies)}, result.correct), records

    folder = tmp_path_factory.mktemp("runs") / "best"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(src.training.trainer, "evaluate", told)
        overrides = ["train.steps=3", "evaluation.every=1", "evaluation.keep_best=true", "checkpoint.keep=2"]
        return run_small(folder, *LEARNING, *overrides)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "adapter_model.safetensors")
    return found


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def hashed(run: Path, checkpoint: str) -> str:
    """Hash of the trained weights of a checkpoint."""
    settings = recorded(run).settings
    return load_policy(settings.model, settings.seed, run / "checkpoints" / checkpoint).trained_hash()


def test_the_run_reports_the_best_step(best: Path) -> None:
    summary = json.loads((best / "summary.json").read_text())
    assert (summary["best"]["step"], summary["best"]["accuracy"], summary["best"]["optimism"]) == (1, 0.75, 0.25)
    assert (summary["reported_step"], summary["final"]["step"]) == (1, 3)
    assert {path.name for path in (best / "checkpoints").iterdir()} == {"best", "latest", "step_2", "step_3"}
    assert {path.name for path in (best / "evaluation").iterdir()} == {"step_1", "step_3"}  # best, and last beside it
    hashes = {name: hashed(best, name) for name in ("best", "step_2", "step_3")}
    assert len(set(hashes.values())) == 3
    for record in summary["evaluations"]["after"]:
        assert record["step"] == 1
        assert record["decided_by"]["weights"]["trained"] == hashes["best"]
    assert equal(best / "model", best / "checkpoints" / "best" / "adapter")


@pytest.mark.parametrize(
    ("overrides", "checkpoint", "step"),
    [
        ([], "best", 1),
        (["checkpoint=best"], "best", 1),
        (["checkpoint=latest"], "step_3", 3),
        (["checkpoint=3"], "step_3", 3),
        (["checkpoint=2"], "step_2", 2),
    ],
)
def test_evaluate_uses_the_best_checkpoint_or_the_given_one(
    best: Path, tmp_path: Path, overrides: list[str], checkpoint: str, step: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(best, run)
    shutil.rmtree(run / "evaluation" / "step_3")  # of the last weights
    own = contents(run)
    shutil.rmtree(run / "evaluation")
    found = evaluated(run, *overrides)
    assert len(found) == 4
    for summary in found:
        assert summary["step"] == step
        assert summary["decided_by"]["weights"]["trained"] == hashed(run, checkpoint)
        assert summary["changed"] == {}
    assert [path.name for path in (run / "evaluation").iterdir()] == [f"step_{step}"]
    if checkpoint == "best":
        assert found == after(run)
        assert contents(run) == own


@pytest.mark.parametrize(
    ("overrides", "checkpoint"),
    [([], "best"), (["checkpoint=best"], "best"), (["checkpoint=latest"], "step_3"), (["checkpoint=2"], "step_2")],
)
def test_export_writes_the_best_checkpoint_or_the_given_one(
    best: Path, tmp_path: Path, overrides: list[str], checkpoint: str
) -> None:
    for what in ("adapter", "merged"):
        out = tmp_path / what
        export(compose("export", [f"run={best}", f"out={out}", f"what={what}", *overrides]), Path())
    assert equal(tmp_path / "adapter", best / "checkpoints" / checkpoint / "adapter")
    policy = load_policy(recorded(best).settings.model, 0, best / "checkpoints" / checkpoint)
    ids = torch.tensor([policy.codec.encode("4 - 9 + 3 =")])
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits
        torch.testing.assert_close(merged, policy.model(input_ids=ids).logits, rtol=0, atol=2e-5)
    own = (best / "model" / "README.md").read_text()
    assert (tmp_path / "merged" / "README.md").exists() == (checkpoint == "best")
    adapter = tmp_path / "adapter" / "README.md"
    assert (adapter.exists() and adapter.read_text() == own) == (checkpoint == "best")
    assert adapter.exists() == (checkpoint == "best"), "PEFT's template must not remain"


def test_the_numbers_on_the_card_are_those_of_the_exported_weights(best: Path, tmp_path: Path) -> None:
    """Evaluating the exported adapter as a new model gives the accuracies that its card states."""
    out = tmp_path / "out"
    export(compose("export", [f"run={best}", f"out={out}", "what=adapter"]), Path())
    overrides = ["benchmark.train_size=32", "benchmark.validation_size=4", "benchmark.test_size=8", "threads=1"]
    overrides += ["evaluation.limit=4", "evaluation.rounds=[1,3]", "evaluation.samples=2"]
    found = evaluate(compose("evaluate", [*overrides, f"model.adapter={out}"]), tmp_path / "anew")
    rows = {(row[0], row[1]): row[3] for row in markdown_tables.rows((out / "README.md").read_text()) if len(row) == 6}
    assert len(found) == 4
    for summary in found:
        stated = "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * summary[part] for part in ("accuracy", "low", "high")))
        assert rows[summary["split"], str(summary["rounds"])] == stated
    anew, own = contents(tmp_path / "anew" / "evaluation"), contents(best / "evaluation" / "step_1")
    records = [name for name in own if name.endswith(".jsonl")]
    assert {name: anew[name] for name in records} == {name: own[name] for name in records}


@pytest.mark.parametrize(
    ("overrides", "checkpoint"), [([], "best"), (["checkpoint=latest"], "step_3"), (["checkpoint=2"], "step_2")]
)
def test_solve_uses_the_best_checkpoint_or_the_given_one(
    best: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], checkpoint: str
) -> None:
    honest, used = src.run.build_run, []

    def noted(*arguments: Any, **options: Any) -> Any:
        used.append(honest(*arguments, **options))
        return used[-1]

    monkeypatch.setattr(src.run, "build_run", noted)
    solve(overlay("solve", [f"run={best}", "question='4 - 9 + 3 ='", *overrides]), Path())
    (run,) = used
    assert run.policy.trained_hash() == hashed(best, checkpoint)


def test_training_on_starts_from_the_best_checkpoint(best: Path) -> None:
    assert adapter_folder(str(best)) == best / "checkpoints" / "best" / "adapter"


def test_an_incomplete_run_uses_its_newest_checkpoint(best: Path, tmp_path: Path) -> None:
    """Its best checkpoint may still change."""
    run = tmp_path / "run"
    shutil.copytree(best, run)
    (run / "summary.json").unlink()
    assert {summary["step"] for summary in evaluated(run, "evaluation.rounds=[1]")} == {3}


def test_a_missing_checkpoint_is_refused_with_the_valid_ones(best: Path) -> None:
    with pytest.raises(InputError, match=r"checkpoint=1: .* valid: best, latest, or a step of \[2, 3\]"):
        evaluated(best, "checkpoint=1")
