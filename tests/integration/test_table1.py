"""Table 1 from hand-written runs, the paper's column, the checks of runs, and the arithmetic of the estimates."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.table1 import cost, runs, table
from src.config import compose
from src.config.composing import raw
from src.estimating.memory import Job, demand
from src.types import InputError
from tests.helpers import markdown_tables


def evaluation(own, published, rounds, tokens=100.0, split="math500", problems=None, samples=1):
    return {
        "problems": problems or {"math500": 500, "aime2024": 30}[split],
        "benchmark": "paper",
        "split": split,
        "accuracy": own,
        "low": own - 0.1,
        "high": own + 0.1,
        "verifier": "math",
        "rounds": rounds,
        "samples": samples,
        "temperature": 0,
        "decided_by": {"problems": {"sha256": split}},
        "tokens_per_answer": tokens,
        "also": {"published": {"accuracy": published, "low": published - 0.1, "high": published + 0.1}},
    }


def write_run(folder, recipe="paper-motif", seed=0, after=0.5, steps=None, lengths=(), overrides=(), **first):
    (folder / ".hydra").mkdir(parents=True)
    config = raw("train", [f"experiment={recipe}", f"seed={seed}", *overrides])
    steps = steps or config.train.steps
    config.train.steps = steps
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    summary = {
        "seed": seed,
        "choices": {"experiment": recipe},
        "final": {"step": steps},
        "evaluations": {
            "before": [evaluation(0.4, 0.3, 1, **first)],
            "after": [
                evaluation(0.9, 0.9, 1),
                evaluation(after, 0.45, 3, 200.0 + seed),
                evaluation(0.1, 0.05, 3, 300.0, split="aime2024"),
            ],
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    step = {f"completion/round_{number}/mean_tokens": length for number, length in enumerate(lengths, 1)}
    (folder / "metrics.jsonl").write_text(json.dumps(step) + "\n")
    return folder


def as_older_versions_wrote_it(folder):
    """Rewrite a summary in the older form: evaluations by "<split>, <n> rounds", without benchmark and split."""
    summary = json.loads((folder / "summary.json").read_text())
    for part, found in summary["evaluations"].items():
        summary["evaluations"][part] = {
            f"{one.pop('split')}, {one['rounds']} round{'s' if one['rounds'] > 1 else ''}": one
            for one in found
            if one.pop("benchmark")
        }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def chosen(found, policy, rounds, split="math500", scoring="published"):
    key = (policy, rounds, split, scoring)
    (row,) = [row for row in found if (row.policy, row.rounds, row.split, row.scoring) == key]
    return row


@pytest.mark.parametrize(
    ("policy", "rounds", "split", "shown"),
    [
        ("GRPO", 1, "math500", "44.8 [40.5, 49.2]"),
        ("MOTIF", 3, "math500", "48.6 [44.2, 53.0]"),
        ("base", 1, "aime2024", "0.0 [0.0, 11.4]"),
        ("MOTIF", 1, "math500", "-"),
    ],
)
def test_the_papers_figures_have_wilsons_intervals(policy, rounds, split, shown):
    row = chosen(table.rows({}), policy, rounds, split)
    assert table._percent(row.paper) == shown
    assert row.ours is None
    assert chosen(table.rows({}), policy, rounds, split, "corrected").paper is None


def test_the_table_has_all_rows_and_marks_those_without_a_run():
    heads, *lines = markdown_tables.rows(table.results_table(table.rows({}), cost.qwen(), cost.budgets(250)))
    assert heads[4:8] == ["paper", "ours", "tokens per answer", "seeds"]
    assert len(lines) == 4 * 2 * 2 * 2
    assert all(line[5:8] == ["not run", "-", "0"] for line in lines)


@pytest.mark.parametrize("older", [(), ("a", "b"), ("b",)], ids=["as written now", "older", "one of them older"])
def test_runs_fill_their_rows_under_both_scorings(tmp_path, older):
    folders = [write_run(tmp_path / "a", seed=0, after=0.5), write_run(tmp_path / "b", seed=1, after=0.52)]
    for name in older:
        as_older_versions_wrote_it(tmp_path / name)
    found = table.rows(runs.read(folders))
    corrected = chosen(found, "MOTIF", 3, scoring="corrected")
    assert corrected.ours.estimate == pytest.approx(0.51)
    over_seeds = 12.706 * 0.01  # Student's t, one degree of freedom
    half = (over_seeds**2 + 0.1**2) ** 0.5  # of both evaluations over their problems: 0.1
    assert corrected.ours.high - corrected.ours.low == pytest.approx(2 * half, rel=1e-4)
    assert (corrected.seeds, corrected.tokens) == (2, 200.5)
    assert chosen(found, "MOTIF", 3).ours.estimate == pytest.approx(0.45)
    assert chosen(found, "base", 1).ours.estimate == pytest.approx(0.3)
    assert chosen(found, "base", 1, scoring="corrected").ours.estimate == pytest.approx(0.4)
    assert chosen(found, "MOTIF", 1).ours.estimate == pytest.approx(0.9)
    assert chosen(found, "MOTIF", 3, "aime2024", "corrected").ours.estimate == pytest.approx(0.1)
    assert chosen(found, "MOTIF", 3, "aime2024").tokens == 300.0
    assert chosen(found, "base", 3).ours is None  # was not evaluated
    assert chosen(found, "GRPO", 3).ours is None


def test_a_run_of_grpo_with_more_steps_is_the_one_at_motifs_tokens(tmp_path):
    found = runs.read(
        [write_run(tmp_path / "a", "paper-grpo", steps=2000), write_run(tmp_path / "b", "paper-grpo", steps=9000)]
    )
    assert {policy: len(of) for policy, of in found.items()} == {"GRPO": 1, runs.EQUAL: 1}


def test_repeated_foreign_and_incomplete_runs_are_refused(tmp_path):
    first = write_run(tmp_path / "a")
    with pytest.raises(InputError, match="a second run of MOTIF with seed 0"):
        runs.read([first, write_run(tmp_path / "b")])
    with pytest.raises(InputError, match="valid: paper-motif, paper-grpo"):
        runs.read([write_run(tmp_path / "c", "motif")])
    with pytest.raises(InputError, match=r"no summary\.json"):
        runs.read([tmp_path])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overrides": ["model=tiny"]}, r"model\.name is 'embedded:tiny', the recipe has 'Qwen/Qwen2\.5-3B-Instruct'"),
        ({"steps": 2}, r"train\.steps is 2, the recipe has 1000"),
        ({"problems": 4}, r"math500 before training, rounds=1 has problems=4, the recipe has 500"),
        ({"overrides": ["benchmark=gsm8k"]}, r"benchmark\.name is 'gsm8k', the recipe has 'paper'"),
        ({"overrides": ["evaluation.samples=4"]}, r"evaluation\.samples is 4, the recipe has 1"),
        ({"samples": 4}, r"math500 before training, rounds=1 has samples=4, the recipe has 1"),
        ({"overrides": ["evaluation.temperature=1"]}, r"evaluation\.temperature is 1, the recipe has 0"),
        ({"overrides": ["algorithm=cispo"]}, r"algorithm\._target_ is 'src\.algorithms\.cispo\.CISPO'"),
        ({"overrides": ["rounds.continuation=policy"]}, r"rounds\.continuation is 'policy', the recipe has 'base'"),
    ],
    ids=[
        "model",
        "steps",
        "problems",
        "data",
        "samples",
        "samples, found",
        "temperature",
        "algorithm",
        "rounds",
    ],
)
def test_a_run_with_other_settings_is_refused_or_listed(tmp_path, changes, said):
    folder = write_run(tmp_path / "a", **changes)
    with pytest.raises(InputError, match=said):
        runs.read([folder])
    text = table.document(runs.read([folder], allow_differences=True), 250, 350)
    assert "These runs differ from the paper's recipes" in text
    assert re.search("- MOTIF, seed 0: .*" + said, text)


def test_a_run_that_stopped_early_is_refused(tmp_path):
    folder = write_run(tmp_path / "a")
    summary = json.loads((folder / "summary.json").read_text())
    summary["final"]["step"] = 30
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"it was trained for 30 steps of train\.steps=1000"):
        runs.read([folder])


def test_runs_tested_on_two_sets_of_problems_are_refused(tmp_path):
    """Both have 500 problems called math500, read from two files."""
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", "paper-grpo")
    summary = json.loads((second / "summary.json").read_text())
    summary["evaluations"]["after"][0]["decided_by"]["problems"]["sha256"] = "another"
    (second / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError) as refused:
        runs.read([first, second])
    assert f"{second}: its problems of math500 are not those of {first}\n" in str(refused.value)


def test_engine_batch_sizes_and_source_of_the_data_may_differ(tmp_path):
    changes = ["engine=local", "train.micro_batch_tokens=2048", "benchmark.source=/data", "tracking=none"]
    (run,) = runs.read([write_run(tmp_path / "a", overrides=changes)])["MOTIF"]
    assert run["differences"] == []
    assert "These runs differ from the paper's recipes" not in table.document({"MOTIF": [run]}, 250, 350)


def test_steps_of_grpo_at_motifs_tokens():
    assert cost.equal_steps(cost.Lengths((300, 300, 300), 250)) == 9000  # 72 completions for 8
    assert cost.equal_steps(cost.Lengths((400, 200, 100), 250)) == 4000  # (3200 + 6400 + 3200) / 3200
    assert cost.budgets(250).rounds == (1024, 1498, 1498)


def test_measured_lengths_replace_assumed_ones(tmp_path):
    found = runs.read([write_run(tmp_path / "a", lengths=(400, 200, 100))])
    text = table.document(found, 250, 350)
    assert "train.steps=4000" in text
    assert "measured mean" in text
    assert "assumed mean of 350" in table.document({}, 250, 350)


def test_the_estimates_use_the_settings_of_the_recipes():
    motif = compose("train", ["experiment=paper-motif"]).settings
    grpo = compose("train", ["experiment=paper-grpo"]).settings
    strategy = motif.rounds
    first, second, third = strategy.widths
    assert cost.TURNS["MOTIF"] == (first, first * second, first * second * third)
    assert cost.TURNS["GRPO"] == grpo.rounds.widths
    assert motif.benchmark.name == grpo.benchmark.name == runs.BENCHMARK
    assert set(runs.PROBLEMS) == set(motif.benchmark.tests)
    assert (motif.train.steps, grpo.train.steps) == (runs.STEPS["MOTIF"], runs.STEPS["GRPO"])
    assert (strategy.first_tokens, strategy.later_tokens, strategy.later_tokens) == cost.LIMITS
    assert strategy.context == cost.CONTEXT
    assert (motif.engine.max_batch_tokens, motif.train.micro_batch_tokens) == (cost.CACHE, cost.MICRO_BATCH)
    model = motif.model
    assert (model.name, model.quantization) == (cost.MODEL.name, cost.MODEL.quantization)
    assert (model.lora.r, sorted(model.lora.targets)) == (cost.MODEL.lora.r, sorted(cost.MODEL.lora.targets))
    need = demand(cost.qwen(), Job(cost.MODEL, cost.CACHE, cost.MICRO_BATCH, moment_bytes=1))
    assert need.optimizer == need.adapter / 2  # two moments of a byte, parameters of four


def test_the_recorded_table_is_up_to_date():
    """It holds no runs yet; its numbers are the paper's or estimates."""
    recorded = (Path(table.__file__).parent / "table.md").read_text(encoding="utf-8")
    assert recorded == table.document({}, 250, 350)
