"""A run's evaluations are read again and never changed; deciding settings give other ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.config import overlay, recorded
from src.engines.local.engine import LocalEngine
from src.evaluate import evaluate
from src.evaluation import loop
from src.evaluation.controls import Control, Sources
from src.evaluation.results import Results
from src.run import build_run
from src.types import InputError


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def evaluated(run: Path, *overrides: str) -> list[dict[str, Any]]:
    return evaluate(overlay("evaluate", [f"run={run}", *overrides]), Path())


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rounds of the evaluations that are sampled instead of read."""
    found, honest = [], loop.evaluate

    def watched(engine: Any, strategy: Any, *arguments: Any, **options: Any) -> Any:
        found.append(strategy.n)
        return honest(engine, strategy, *arguments, **options)

    monkeypatch.setattr(loop, "evaluate", watched)
    return found


def test_evaluating_a_run_again_reads_its_own_results(run: Path, sampled: list[int]) -> None:
    before = content(run / "evaluation" / "step_4")
    summaries = evaluated(run)
    assert sampled == []
    assert content(run / "evaluation" / "step_4") == before
    written = json.loads((run / "summary.json").read_text())["evaluations"]["after"]
    assert summaries == written
    assert {(one["split"], one["rounds"]) for one in summaries} == {(s, n) for s in ("easy", "hard") for n in (1, 3)}


@pytest.mark.parametrize(
    ("override", "protocol_changes"),
    [
        ("evaluation.temperature=0.5", True),
        ("evaluation.top_p=0.9", True),
        ("evaluation.limit=2", True),
        ("evaluation.samples=3", True),
        ("benchmark.seed=5", True),
        ("seed=7", True),
        ("rounds.later_tokens=20", True),
        ("rounds.carry._target_=src.rounds.carry.memory.Memory", True),
        ("model.prompts.final=Now", True),
        ("checkpoint=3", False),
    ],
)
def test_deciding_settings_change_the_key(run: Path, sampled: list[int], override: str, protocol_changes: bool) -> None:
    """All of them except the weights also change the protocol."""
    folder = run / "evaluation"
    before = {place.name: content(place) for place in folder.iterdir()}
    (changed,) = (one for one in evaluated(run, "evaluation.rounds=[3]", override) if one["split"] == "easy")
    assert sampled == [3, 3]
    after = {place.name: content(place) for place in folder.iterdir()}
    for place, files in before.items():
        assert {name: after[place][name] for name in files} == files  # other files are unchanged
    (own,) = (
        one
        for one in json.loads((run / "summary.json").read_text())["evaluations"]["after"]
        if (one["split"], one["rounds"]) == ("easy", 3)
    )
    assert changed["key"] != own["key"]
    assert (changed["protocol"] != own["protocol"]) == protocol_changes
    setting = override.partition("=")[0]
    assert changed["changed"].keys() - {"evaluation.rounds", "rounds.prompts.final"} <= {setting}
    assert (setting in changed["changed"]) == (setting != "checkpoint")
    sampled.clear()
    again = [one for one in evaluated(run, "evaluation.rounds=[3]", override) if one["split"] == "easy"]
    assert (sampled, again) == ([], [changed])


def test_other_settings_do_not_change_the_key(run: Path, sampled: list[int]) -> None:
    evaluated(run, "threads=1", "engine.max_batch_tokens=3000")
    assert sampled == []


def test_a_missing_evaluation_of_the_base_is_an_error(run: Path) -> None:
    config = recorded(run)
    present = build_run(config, run, run / "checkpoints" / "step_4")
    results = Results(run / "evaluation" / "step_0")
    settings = config.settings.evaluation
    found = loop.evaluations_of_base(present, settings, results)
    assert [one.summary for one in found] == json.loads((run / "summary.json").read_text())["evaluations"]["before"]
    (results.folder / "chain-sum-hard_rounds3.json").unlink()
    with pytest.raises(InputError, match="the evaluation of the base on hard over 3 rounds is missing"):
        loop.evaluations_of_base(present, settings, results)


AGGREGATION = [
    *("rounds=aggregation", "rounds.responses=2", "rounds.sets=1", "rounds.sources=2", "evaluation.rounds=[2]"),
    *("evaluation.limit=3", "~benchmark.tests.hard"),
]


def test_controls_change_what_aggregations_read(run: Path, tmp_path: Path, sampled: list[int]) -> None:
    config = overlay("evaluate", [f"run={run}", *AGGREGATION])
    present = build_run(config, run, run / "checkpoints" / "step_4")
    results = Results(tmp_path / "results")
    sources = {
        "plain": None,
        "shuffled": Sources(Control(sources="shuffled"), present.engine),
        "wrong": Sources(Control(sources="oracle_wrong"), present.engine),
        "own": Sources(Control(drafts="itself"), present.engine, {"base": "a", "trained": "b"}),
    }

    def evaluated_with(name: str) -> dict[str, Any]:
        asked = present.settings.evaluation, results, lambda name, size: lambda done: None
        (found,) = loop.evaluate_tests(present, *asked, sources=sources[name])
        return found.summary

    found = {name: evaluated_with(name) for name in sources}
    assert len({one["key"] for one in found.values()}) == len({one["protocol"] for one in found.values()}) == 4
    assert found["own"]["per_problem"] == found["plain"]["per_problem"]
    assert found["own"]["graph"] == found["plain"]["graph"]
    for name in ("shuffled", "own"):
        assert found[name]["control"]["covered"] == found[name]["control"]["problems"] == 3
    wrong = found["wrong"]
    assert (wrong["graph"]["aggregations"], wrong["graph"]["wrong_if_some_right"]) == (2 * wrong["problems"], None)
    assert wrong["accuracy"] == wrong["graph"]["right_if_all_wrong"]["estimate"]
    sampled.clear()
    assert evaluated_with("wrong") == wrong
    assert sampled == []


def test_another_run_writes_the_drafts(run: Path, tmp_path: Path) -> None:
    earlier = Path(shutil.copytree(run, tmp_path / "earlier"))
    (earlier / "summary.json").unlink()
    shutil.rmtree(earlier / "checkpoints" / "step_4")
    (found,) = evaluated(run, *AGGREGATION, f"control.drafts={earlier}")
    decided = found["decided_by"]
    assert decided["weights"]["base"] == decided["control"]["drafts"]["base"]
    assert decided["weights"]["trained"] != decided["control"]["drafts"]["trained"]
    assert found["control"] == {"sources": "as_written", "drafts": str(earlier), "problems": 3, "covered": 3}
    assert found["changed"]["control.drafts"] == {"run": None, "here": str(earlier)}


def test_a_population_search_answers_with_any_policy(run: Path) -> None:
    settings = ["rounds/search=aggregate", "rounds.search.candidates=3", "rounds.search.sources=2", "rounds/carry=tail"]
    summaries = evaluated(run, *settings, "evaluation.limit=1", "evaluation.samples=2", "evaluation.rounds=[2]")
    assert {(one["split"], one["rounds"], one["samples"]) for one in summaries} == {("easy", 2, 2), ("hard", 2, 2)}
    assert all("rounds.search.sources" in one["changed"] for one in summaries)


def test_another_engine_answers_again_to_measure_the_floor(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders, honest = [], LocalEngine._decoder

    def watched(self: LocalEngine, model: Any) -> Any:
        found = honest(self, model)
        decoders.append(type(found[0]).__name__)
        return found

    monkeypatch.setattr(LocalEngine, "_decoder", watched)
    summaries = evaluated(run, "evaluation.floor=2", "evaluation.floor_engine=hf")
    assert {"LlamaDecoder", "ForwardDecoder"} == set(decoders)
    for one in summaries:
        assert one["floor"]["engine"] == "HF"
        assert one["decided_by"]["floor_engine"] == "HF"
        assert 0 <= one["floor"]["estimate"] <= one["floor"]["high"]
        assert one["floor"]["estimate"] < 0.5, "the same random numbers"


def test_one_problem_has_no_other_layout(run: Path) -> None:
    with pytest.raises(InputError, match=r"the test split easy, hard has one problem, which has one layout"):
        evaluated(run, "evaluation.floor=2", "evaluation.limit=1")
    (one, *_) = evaluated(run, "evaluation.floor=2", "evaluation.limit=1", "evaluation.floor_engine=hf")
    assert one["floor"]["problems_at_once"] == 1
