"""A small run whose turns call a calculator, on the embedded model: ``=`` after the first expression is the call."""

from __future__ import annotations

from pathlib import Path

from src.reporting.page_data import page_data
from src.reporting.runs import grouped, read_run
from src.utils.files import read_jsonl
from tests.conftest import run_small

CALLS = ["rounds/tool=calculator", "rounds.tool.opening='<reasoning>'", "rounds.tool.closing='='"]


def test_a_run_with_a_tool(tmp_path: Path) -> None:
    result = "rounds.tool.result='{result}'"
    folder = run_small(tmp_path / "run", "rounds=2", "train.steps=1", "train.rollouts_every=1", *CALLS, result)
    (metrics,) = read_jsonl(folder / "metrics.jsonl")
    turns = [turn for line in read_jsonl(folder / "rollouts" / "step_000001.jsonl") for turn in line["turns"]]
    called = [turn for turn in turns if "segments" in turn]
    assert called
    for turn in called:
        call, result, *_ = turn["segments"]
        terms = call[1].rpartition("<reasoning>")[2].removesuffix("=")
        assert result == ["environment", str(eval(terms))]
    assert metrics["tokens/generated"] == sum(turn["tokens"] for turn in turns)
    assert metrics["sampler_mismatch"] < 1e-5  # the sampler read the results where the trainer reads them
    shown = page_data(grouped([read_run(folder)]), 1, 8, 0)["rollouts"]
    assert any("segments" in turn for rollout in shown for turn in rollout["turns"])
