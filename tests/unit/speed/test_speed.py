"""Speed and memory benchmarks: equal token counts, ratios, and tables checked by hand."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from src import config as configuration
from src.config import ROOT
from src.engines.local import native
from src.engines.local.engine import LocalEngine
from src.models.loading import load_policy
from src.models.policy import Policy
from src.models.settings import Lora
from src.rounds.growing import grow
from src.speed import (
    generating,
    memory,
    pattern,
    peak,
    processes,
    rollouts,
    roofline,
    scaling,
    step,
    stepping,
    timing,
    training,
    writing,
)
from src.speed.base import Measured, Table, Unending, Workbench, comparison
from src.speed.generating import Request
from src.speed.plots import scaling_plot
from src.speed.timing import Timed
from src.speed.trl_trainer import TrlTrainer, missing
from src.types import Engine, InputError, Sampling, Status, Turn
from tests.helpers import markdown_tables
from tests.helpers.tiny_models import adapted, save_tiny, tiny_config

QUICK = ["model=tiny", "measuring.limit=4", "measuring.repeats=1", "measuring.warmup=0"]


def bench(run: Path, *overrides: str) -> Workbench:
    return Workbench(configuration.compose("speed", [*QUICK, *overrides]), run)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A random model of two layers, without an adapter."""
    folder = save_tiny(tmp_path_factory.mktemp("tiny"))
    return load_policy(tiny_config(folder).replace(lora=None), 0)


# settings


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("measure=[speed]", "must be a list of one of rollouts, pattern, training"),
        ("measure=rollouts", "must be a list of one of rollouts"),
        ("measure=[]", "measures nothing"),
        ("measuring.cases=[]", "leaves no case for measure=[rollouts]"),
        ("measuring.cases=[huge]", "must be a list of one of group, mixed, skewed, large"),
        ("measuring.repeats=0", "measuring.repeats=0 must be 1 or more"),
        ("measuring.warmup=-1", "measuring.warmup=-1 must be 0"),
        ("measuring.limit=1", "measuring.limit=1 must be 2 or more, or null"),
        ("measuring.openvino=/nowhere", "measuring.openvino=/nowhere: there is no openvino_model.xml"),
        ("measuring.repeat=3", "did you mean measuring.repeats"),
        ("seed=x", "seed='x': must be a whole number"),
        ("engine=vllm", "engine: src.speed measures engine=local, with and without compiled code"),
    ],
)
def test_a_mistake_is_named(override: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        configuration.compose("speed", ["model=tiny", override])
    assert any(text in problem for problem in caught.value.problems), caught.value.problems


def test_every_section_is_a_file() -> None:
    settings = configuration.compose("speed", ["model=tiny"]).settings.measuring
    assert sorted(settings.sections) == ["memory", "pattern", "rollouts", "roofline", "scaling", "step", "training"]
    for name in settings.sections:
        assert importlib.util.find_spec(f"src.speed.{name}") is not None


# times and ratios


def test_methods_alternate_and_warmup_does_not_count() -> None:
    calls = []

    def way(name: str) -> Any:
        return lambda: calls.append(name) or 7

    timed = timing.alternate({"a": way("a"), "b": way("b")}, repeats=3, warmup=1)
    assert calls == ["a", "b"] * 4
    assert [len(one.seconds) for one in timed.values()] == [3, 3]
    assert timed["a"].tokens == [7] * len(timed["a"].seconds)


def test_different_numbers_of_tokens_are_not_compared() -> None:
    ways = {"a": lambda: 7, "b": lambda: 8}
    with pytest.raises(RuntimeError, match=r"\{'a': 7, 'b': 8\}"):
        timing.alternate(ways, 1, 0)
    assert [one.tokens for one in timing.alternate(ways, 1, 0, equal=False).values()] == [[7], [8]]


def test_a_ratio_compares_adjacent_repeats() -> None:
    slow, fast = [8.0, 90.0, 12.0], [4.0, 30.0, 2.0]  # ratios 2, 3 and 6; the ratio of the medians would be 3 = 12 / 4
    ratio = timing.speedup(slow, fast)
    assert (ratio.estimate, ratio.low, ratio.high) == (3, 2, 6)
    assert timing.speedup([8.0, 90.0, 12.0, 4.0], [4.0, 30.0, 2.0, 1.0]).estimate == 3.5


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_coverage_of_the_interval(repeats: int) -> None:
    sides = list(itertools.product((-1, 1), repeat=repeats))  # of each ratio, the side of the median that it falls on
    held = [min(side) < 0 < max(side) for side in sides]
    assert timing.coverage(repeats) == sum(held) / len(held)


def test_slope_and_rate() -> None:
    assert timing.slope([1, 2, 4], [7, 9, 13]) == pytest.approx(2)
    assert Timed([3.0, 1.0, 2.0], [50] * 3).rate == 25
    assert Timed([9.0, 9.0, 3.0], [900, 900, 300]).rate == 100  # whatever was written in which repeat


def test_a_comparison_reads_as_it_should() -> None:
    timed = {"slow": Timed([4.0, 6.0, 5.0], [100] * 3), "fast": Timed([2.0, 2.0, 1.0], [100] * 3)}
    table, numbers = comparison("Title", {"case": timed}, "slow")
    assert table.rows == [["case", "slow", "5", "20", "1"], ["case", "fast", "2", "50", "3.00 [2.00, 5.00]"]]
    assert numbers[1]["speedup"] == {"against": "slow", "median": 3.0, "low": 2.0, "high": 5.0}


# generation


def test_all_methods_generate_the_requested_tokens(policy: Policy, tmp_path: Path) -> None:
    ways, notes = generating.own_ways(bench(tmp_path), policy)
    rng = random.Random(0)
    requests = [Request(generating.random_prompt(rng, policy, prompt), new) for prompt, new in ((5, 3), (2, 7), (9, 1))]
    assert len(ways) + len(notes) == 2
    assert [way(requests) for way in ways.values()] == [11] * len(ways)
    assert [generating.generate(policy, requests, batch) for batch in (1, 2, 3)] == [11] * 3


def test_generate_runs_a_batch_to_its_longest_and_leaves_the_model_as_it_was(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    honest = policy.model.generate

    def noted(**options: Any) -> Any:
        asked.append((tuple(options["input_ids"].shape), options["max_new_tokens"], options["top_k"]))
        assert policy.model.generation_config.eos_token_id is None
        return honest(**options)

    end = policy.model.generation_config.eos_token_id
    monkeypatch.setattr(policy.model, "generate", noted)
    generating.generate(policy, [Request((5,) * n, n) for n in (4, 2, 6)], 2)
    assert asked == [((2, 4), 4, 0), ((1, 6), 6, 0)]
    assert policy.model.generation_config.eos_token_id == end is not None


def test_a_missing_compiler_is_reported(policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    ways, notes = generating.own_ways(bench(tmp_path), policy)
    assert list(ways) == [generating.TORCH]
    assert "no C++ compiler was found" in notes[0]


def test_missing_packages_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ways, notes = generating.others(bench(tmp_path))
    assert ways == {}
    assert notes == ["vLLM: not installed", "OpenVINO GenAI: not installed"]
    assert missing() == "trl and datasets: not installed (pip install trl)"
    left_out = training.measure(bench(tmp_path))
    assert left_out.tables == []
    assert "trl and datasets: not installed" in left_out.notes[0]


def test_openvino_generates_the_same_number_of_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    class Pipeline:
        def __init__(self, folder: str, scheduler: Any, device: str, properties: dict[str, Any]) -> None:
            asked.update(folder=folder, device=device, precision=properties["INFERENCE_PRECISION_HINT"])

        def generate(self, prompts: list[Any], sampling: list[Any]) -> list[Any]:
            asked["prompts"] = [prompt.tolist() for prompt in prompts]
            asked["new"] = [(one.max_new_tokens, one.ignore_eos, one.do_sample, one.temperature) for one in sampling]
            return [SimpleNamespace(m_generation_ids=[[0] * one.max_new_tokens]) for one in sampling]

    genai = SimpleNamespace(
        SchedulerConfig=SimpleNamespace, GenerationConfig=SimpleNamespace, ContinuousBatchingPipeline=Pipeline
    )
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Tensor=np.asarray))
    monkeypatch.setitem(sys.modules, "openvino_genai", genai)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name == "openvino_genai" else None)
    (tmp_path / "openvino_model.xml").touch()
    ways, notes = generating.others(bench(tmp_path, f"measuring.openvino={tmp_path}"))
    assert notes == ["vLLM: not installed"]
    assert ways["OpenVINO GenAI"]([Request((9, 9), 1)]) == 1
    assert ways["OpenVINO GenAI"]([Request((5, 6), 3), Request((7,), 2)]) == 5
    assert asked == {
        "folder": str(tmp_path),
        "device": "CPU",
        "precision": "f32",
        "prompts": [[[2, 6]], [[2]]],
        "new": [(3, True, True, 1.0), (2, True, True, 1.0)],
    }


def test_cases_have_their_documented_sizes(policy: Policy) -> None:
    settings = configuration.compose("speed", ["model=tiny"]).settings.measuring
    cases = rollouts.requests(settings, policy, random.Random(0))
    assert {name: len(case) for name, case in cases.items()} == {"group": 64, "mixed": 32, "skewed": 256, "large": 256}
    assert {(len(one.prompt), one.new) for one in cases["group"]} == {(84, 128)}
    assert len({one.prompt for one in cases["group"]}) == 1
    assert len({one.prompt for one in cases["mixed"]}) == 32
    assert all(250 <= len(one.prompt) <= 340 for one in cases["mixed"])
    rng = random.Random(1)
    lengths = [rollouts.skewed_length(rng, 128) for _ in range(20000)]
    assert (min(lengths), max(lengths)) == (1, 128)
    assert sum(lengths) / len(lengths) == pytest.approx(28, abs=1)
    assert "64 rows, prompts of 84, 128 new tokens (mean 128)" in rollouts.size(cases["group"])


def test_the_plain_model_is_measured_in_the_precision_of_the_adapted_one(tmp_path: Path) -> None:
    """Half precision cannot be trained without an adapter, but it can be measured."""
    desk = bench(tmp_path, "model.dtype=bfloat16")
    plain, adapter = desk.policy(None), desk.policy(Lora(r=4, alpha=8))
    assert {parameter.dtype for parameter in plain.model.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
    assert plain.base_hash == adapter.base_hash


def test_random_prompts_hold_no_special_token(policy: Policy) -> None:
    prompt = set(generating.random_prompt(random.Random(0), policy, 2000))
    assert not prompt & {*policy.end_tokens, policy.pad_token}
    assert max(prompt) < policy.codec.size


def test_each_later_turn_continues_its_own_turn(policy: Policy, tmp_path: Path) -> None:
    engine = bench(tmp_path).engine(Unending(policy), native=False)
    rounds = [[Request((5, 6 + row), 2 + number) for row in range(3)] for number in range(2)]
    assert pattern.grown(engine, rounds) == 3 * 2 + 3 * 3


# training


@pytest.mark.skipif(missing() is not None, reason="TRL is installed with the extra dev")
def test_the_compared_step_is_trls_own(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    config = tiny_config(folder).replace(lora=training.LORA)
    mine, theirs = (adapted(load_policy(config, 0)) for _ in range(2))
    rng = random.Random(0)
    prompt = generating.random_prompt(rng, mine, 11)
    rows = training.group(prompt, [generating.random_prompt(rng, mine, 6) for _ in range(4)])
    learner = training.own_learner(mine, 4096)
    learner.backward(learner.prepare(rows))
    trl = TrlTrainer(theirs, 4, 6, training.MAX_GRAD_NORM, training.RATE, str(tmp_path / "trl"))
    torch.autograd.backward(trl.loss(rows))
    gradients = [torch.cat([p.grad.flatten() for p in one.parameters()]) for one in (mine, theirs)]
    assert float(gradients[1].norm()) > 0.1
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)
    assert trl.whole_step(prompt) == 4 * 6
    buffered = trl.trainer._buffered_inputs[0]
    assert buffered["prompt_ids"].tolist() == [list(prompt)] * 4
    assert sorted(buffered["advantages"].tolist()) == pytest.approx(sorted(row.advantage for row in rows), abs=1e-3)


@pytest.mark.skipif(missing() is not None, reason="TRL is installed with the extra dev")
def test_both_steps_are_compared_at_equal_tokens(tmp_path: Path) -> None:
    desk = bench(tmp_path)
    ways = training.measure(desk).numbers["ways"]
    engines, _ = generating.own_engines(desk, Unending(desk.policy(None)))
    assert [(one["case"], one["way"]) for one in ways] == [
        ("training", training.TRL),
        ("training", training.OURS),
        ("whole step", training.TRL),
        *(("whole step", name) for name in engines),
    ]
    assert {count for one in ways for count in one["tokens"]} == {4 * 4}


def test_a_whole_step_trains_on_its_own_completions(tmp_path: Path) -> None:
    desk = bench(tmp_path)
    policy = desk.policy(Lora(r=4, alpha=8))
    learner = training.own_learner(policy, 4096)
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    assert training.whole_step(desk.engine(Unending(policy)), learner, (5, 6, 7), rows=4, new=5) == 20
    assert any(not torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))


# a step by phase


def test_a_round_lasts_from_the_end_of_the_one_before_to_its_own() -> None:
    assert stepping.by_round(10.0, {1: 14.0, 2: 13.5, 3: 19.0}, 20.0) == {
        "rollout, round 1": 4.0,
        "rollout, round 2": 0.0,  # its last turn was done before the first round's
        "rollout, round 3": 6.0,
    }


def test_phases_are_medians_and_shares_of_the_median_step() -> None:
    steps = [stepping.Step({"a": a, "b": b}, {"a": tokens}) for a, b, tokens in ((1, 3, 10), (2, 2, 30), (3, 7, 20))]
    assert step.table(steps) == [
        ["a", "2", "1 to 3", "50 %", "20"],
        ["b", "3", "2 to 7", "75 %", ""],
        ["whole step", "4", "4 to 10", "100 %", ""],
    ]


def test_a_step_follows_its_settings(tmp_path: Path) -> None:
    overrides = ["measuring.problems=2", "rounds=2", "rounds.responses=3", "rounds.trajectories=2"]
    found = step.measure(bench(tmp_path, *overrides, "measuring.new_tokens=7"))
    assert found.numbers["steps"].keys() == {generating.GENERATE, generating.TORCH, generating.COMPILED}
    for (only,) in found.numbers["steps"].values():
        first, second = "rollout, round 1", "rollout, round 2"
        assert set(only["seconds"]) == {first, second, "reward and credit", "training"}
        assert only["tokens"]["training"] == only["tokens"][first] <= 2 * 3 * 7  # MOTIF trains the first round
        assert 0 < only["tokens"][second] <= 2 * 3 * 2 * 7
    ways = {(way["case"], way["way"]): way for way in found.numbers["ways"]}
    for (case, name), way in ways.items():
        (only,) = found.numbers["steps"][name]
        spent = [value for phase, value in only["seconds"].items() if case == "whole step" or "rollout" in phase]
        assert way["median_seconds"] == pytest.approx(sum(spent), rel=0.1, abs=0.01)  # and what lies between the phases
        assert way["tokens"] == [only["tokens"]["rollout, round 1"] + only["tokens"]["rollout, round 2"]]
    assert "2 problems" in found.about
    assert "3 x 2 children" in found.about


def test_every_step_begins_with_the_same_weights(tmp_path: Path) -> None:
    desk = bench(tmp_path)
    policy, strategy = desk.policy(Lora(r=4, alpha=8)), desk.run.rounds.replace(responses=3, trajectories=2)
    problems = desk.run.benchmark.load().train[:2]
    stepper, written = stepping.Stepper(desk, policy), []
    for _ in range(2):
        recorder = Recorder(desk.engine(policy))
        taken = stepper.run(recorder, strategy, problems, ("key",))
        written.append({(turn.tree, turn.path): (turn.completion, turn.logprobs) for turn in recorder.turns})
        assert taken.written == sum(len(turn.completion) for turn in recorder.turns)
    assert written[0] == written[1]
    started = zip(policy.parameters(), stepper.start, strict=True)
    assert any(not torch.equal(parameter, start) for parameter, start in started)  # the step did learn


class Recorder:
    """An engine that records the turns of another engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.turns = engine, []

    def generate(self, turns, children, on_token=None):
        self.turns += self.engine.generate(turns, children, on_token)
        return self.turns


@pytest.mark.parametrize("stop_at_answer", [False, True])
def test_generate_as_an_engine_agrees_with_the_local_engine(policy: Policy, stop_at_answer: bool) -> None:
    """Greedy decoding, so that only ends and children matter, not random numbers."""
    rng = random.Random(1)
    sampling = Sampling(24, temperature=0.0, stop_at_answer=stop_at_answer)
    roots = [Turn((index,), tuple(rng.choices(range(5, 40), k=3 + index)), sampling) for index in range(40)]

    def children(turn: Turn) -> list[Turn]:
        later = replace(sampling, max_new_tokens=5)
        return [Turn((*turn.path, 0), turn.prompt + turn.completion[:4], later)] if turn.round < 3 else []

    def facts(written: list[Turn]) -> dict:
        return {turn.path: (turn.completion, turn.status, turn.text) for turn in written}

    ours = facts(LocalEngine(policy, native=False).generate(roots, children))
    theirs = facts(generating.Generating(policy).generate(roots, children))
    assert len(ours) == 120
    assert theirs == ours
    assert len({status for _, status, _ in ours.values()}) == 2


def test_generate_as_an_engine_ends_at_the_closing_tag(policy: Policy) -> None:
    codec, end = policy.codec, min(policy.end_tokens)
    said = codec.encode("ab</answer>")
    turn = Turn((0,), (5,), Sampling(30, stop_at_answer=True))
    closed = generating.Generating(policy)._finished(turn, [*said, 7, end])
    assert (closed.completion, closed.status, closed.text) == (said, Status.DONE, "ab</answer>")
    free = replace(turn, sampling=Sampling(30))
    ended = generating.Generating(policy)._finished(free, [*said, end, 0, 0])
    assert (ended.completion, ended.text) == ((*said, end), "ab</answer>")
    more = codec.encode("ab</answer")  # the token that completes the tag says more
    last = next(token for token in range(codec.size) if codec.decode([token]) == ">!")
    assert generating.Generating(policy)._finished(turn, [*more, last, 0, 0]).completion == (*more, last)


def test_generate_as_an_engine_draws_from_the_first_turns_stream(policy: Policy) -> None:
    turns = [Turn((index,), (5, 6, 7 + index), Sampling(12), stream=3) for index in range(4)]
    state = torch.get_rng_state()
    once, again = (generating.Generating(policy).generate(turns, lambda turn: ()) for _ in range(2))
    assert once == again
    assert torch.equal(torch.get_rng_state(), state)
    others = [replace(turn, stream=4) for turn in turns]
    assert generating.Generating(policy).generate(others, lambda turn: ()) != once


# scaling


def test_the_number_of_turns_of_a_point_equals_that_of_its_rollouts(tmp_path: Path) -> None:
    desk = bench(tmp_path)
    policy, strategy = desk.policy(None), desk.run.rounds
    point = scaling.Point(m=3, k=2, n=3, problems=2, tokens=4)
    rounds = strategy.replace(n=3, responses=3, trajectories=2, first_tokens=4, later_tokens=4)
    problems = desk.run.benchmark.load().train[:2]
    trees = grow(desk.engine(Unending(policy)), rounds, problems, policy.codec, (0,))
    assert sum(len(tree.turns) for tree in trees) == point.turns == 2 * (3 + 6 + 6)
    assert sum(tree.tokens for tree in trees) == point.turns * point.tokens


def test_one_factor_doubles_at_a_time() -> None:
    plan = scaling.points(scaling.START)
    assert len(plan) == 1 + 5 * scaling.DOUBLINGS
    timed = {name: float(point.turns) for name, point in plan.items()}
    start = scaling.START.turns
    assert scaling.before("start", plan) is None
    assert [scaling.before(f"n = {n}", plan) for n in (4, 8)] == ["start", "n = 4"]
    assert scaling.course("problems", scaling.START, plan, timed) == [(1, start), (2, 2 * start), (4, 4 * start)]
    assert scaling.course("m", scaling.START, plan, timed) == [(1, start), (2, 2 * start), (4, 4 * start)]
    assert scaling.course("tokens", scaling.START, plan, timed) == [(1, start), (2, start), (4, start)]


def test_a_point_is_compared_with_the_one_before_it(tmp_path: Path) -> None:
    found = scaling.measure(bench(tmp_path, "measuring.limit=2", "model=tiny"))
    (table,) = found.tables
    rows = {row[0]: row for row in table.rows}
    points = {point["point"]: point for point in found.numbers["points"]}
    for name, earlier in (("m = 4", "start"), ("m = 8", "m = 4"), ("n = 8", "n = 4"), ("tokens = 4", "start")):
        for column, number in ((4, "rollout_seconds"), (6, "seconds")):
            (ratio,) = [one / other for one, other in zip(points[name][number], points[earlier][number], strict=True)]
            assert rows[name][column] == f"x {ratio:.2f} [{ratio:.2f}, {ratio:.2f}]"
        assert points[name]["rollout_seconds"][0] < points[name]["seconds"][0]
    assert rows["start"][4] == rows["start"][6] == ""
    assert points["n = 8"]["turns"] == 2 * (2 + 2 * 2 * 7)
    assert points["n = 8"]["tokens_written"] == points["n = 8"]["turns"] * 2


def test_the_plot_has_a_line_per_factor_and_a_proportional_one() -> None:
    lines = {"m": [(1.0, 2.0), (2.0, 3.0), (4.0, 8.0)], "k": [(1.0, 2.0), (2.0, 2.0), (4.0, 2.5)]}
    (axes,) = scaling_plot(lines).axes
    drawn = {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert drawn == {**lines, "proportional": [(1, 2), (2, 4), (4, 8)]}


def test_too_few_problems_are_refused(tmp_path: Path) -> None:
    desk = bench(tmp_path, "measuring.problems=40", "measuring.limit=null", "benchmark.train_size=32")
    with pytest.raises(InputError, match="benchmark=chain-sum has 32 training problems, but 40 are needed"):
        step.measure(desk)


# memory

linux = pytest.mark.skipif(not peak.STATUS.exists(), reason="peaks are read from Linux's /proc")


@linux
def test_taken_measures_peak_memory() -> None:
    """In a separate process, because one that reuses freed memory takes less."""
    code = """
import torch
from src.speed import peak

def work():
    for mib in (10, 200, 50):
        torch.ones(mib * 2**18)

print(peak.taken(work))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(found.stdout) == pytest.approx(200, abs=8)


@linux
def test_the_parents_memory_does_not_count(tmp_path: Path) -> None:
    ballast = torch.ones(600 * 2**18)
    mib = memory.peak(bench(tmp_path), work="head", vocabulary=16384, tokens=512, pieces=True)
    logits = 16384 * 512 * 4 / 2**20
    assert 2 * logits < mib < 6 * logits < ballast.numel() * 4 / 2**20


def test_rows_fit_into_the_budget_and_the_context(tmp_path: Path) -> None:
    assert memory.budgeted(bench(tmp_path, "measuring.limit=null")) == (4096, [128, 256, 512])
    budget, lengths = memory.budgeted(bench(tmp_path))
    assert all(budget % length == 0 for length in lengths)
    assert len(lengths) == 2


def test_an_error_in_the_subprocess_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'vocabulary'"):
        memory.peak(bench(tmp_path), work="head")


@linux
@pytest.mark.slow
def test_memory_does_not_follow_the_longest_row(tmp_path: Path) -> None:
    found = memory.measure(bench(tmp_path))
    growth = {one["work"]: max(one["mib"]) / min(one["mib"]) for one in found.numbers["longest"]}
    assert growth["rollouts"] < 1.5
    assert growth["training"] < 1.5
    rises = {one["way"]: one["mib_per_1000_tokens"] for one in found.numbers["head"]}
    assert rises["in pieces"] < 0.5 * rises["all at once"]


# the roofline


@pytest.mark.parametrize(
    ("dtype", "bfloat16", "peak"),
    [("bfloat16", 2.0, 10.0), ("bfloat16", 40.0, 40.0), ("float32", 40.0, 10.0), ("float16", 40.0, 40.0)],
)
def test_products_in_float32_bound_a_model_in_bfloat16_too(dtype: str, bfloat16: float, peak: float) -> None:
    assert roofline.peak_of(dtype, {"float32": 10.0, "bfloat16": bfloat16}) == peak


def test_bounds_by_hand() -> None:
    machine = roofline.Machine(bandwidth=100.0, flops=1000.0)
    decoding = roofline.Decoding(weight_bytes=80.0, cache_bytes=5.0, operations=250.0)
    assert roofline.bounds(machine, decoding, 1) == (100 / 85, 4.0)
    assert roofline.bounds(machine, decoding, 4) == (4.0, 4.0)  # 400 / (80 + 20)


def test_traffic_of_a_decoding_step(policy: Policy) -> None:
    # tests/helpers/tiny_models.py: width 32, MLP 48, 2 layers, 4 heads and 2 groups of 8, the head not tied
    vocabulary = policy.model.config.vocab_size
    attention = 32 * 32 + 32 + 2 * (32 * 16 + 16) + 32 * 32  # Qwen2 has biases on q, k and v
    layer = attention + 3 * 32 * 48 + 2 * 32
    weights = vocabulary * 32 + 2 * layer + 32
    found = roofline.decoding_of(policy, tokens=10)
    assert found.weight_bytes == 4 * weights
    assert found.cache_bytes == 2 * 2 * 16 * 4 * 10
    assert found.operations == 2 * weights + 4 * 2 * 32 * 10


def test_a_tied_table_of_embeddings_is_read_as_the_head() -> None:
    table, other = torch.nn.Embedding(10, 4), torch.nn.Linear(4, 3, bias=False)
    head = SimpleNamespace(weight=table.weight)
    model = SimpleNamespace(
        config=SimpleNamespace(num_hidden_layers=1, num_attention_heads=2, hidden_size=4),
        get_input_embeddings=lambda: table,
        get_output_embeddings=lambda: head,
        parameters=lambda: [table.weight, other.weight],
    )
    found = roofline.decoding_of(SimpleNamespace(model=model), tokens=1)  # type: ignore[arg-type]
    assert found.weight_bytes == 4 * (40 + 12)
    assert found.cache_bytes == 2 * 2 * 2 * 4


# on paper

ABOUT = {
    "command": "python -m src.speed",
    "model": "embedded:tiny",
    "dtype": "float32",
    "seed": 0,
    "environment": dict.fromkeys(("processor", "device", "cores", "threads", "instructions", "python", "commit"), "?")
    | {"load": 0.25},
    "versions": {"torch": "2"},
    "settings": {"repeats": 5},
}


def test_results_are_complete_after_every_section(tmp_path: Path) -> None:
    measured = Measured("About.", [Table("Title", ("a|b", "c"), [["1", "2"]])], ["a note"], {"numbers": [1.5]})
    writing.write(tmp_path, ABOUT, {"rollouts": measured})
    page = (tmp_path / "speed.md").read_text()
    assert "load average 0.2 at the start" in page
    assert "\n## rollouts\n\nAbout.\n\n**Title**\n\n|" in page
    assert markdown_tables.rows(page) == [[r"a\|b", "c"], ["1", "2"]]
    assert page.endswith("|\n\n- a note\n")
    assert "a 94 % confidence interval of the median" in page
    read = json.loads((tmp_path / "speed.json").read_text())
    assert read["sections"] == {"rollouts": {"about": "About.", "notes": ["a note"], "numbers": [1.5]}}
    assert read["seed"] == 0


def test_the_command_as_a_whole(tmp_path: Path) -> None:
    sections = "rollouts,pattern,step,scaling,roofline"
    command = [sys.executable, "-m", "src.speed", *QUICK, f"measure=[{sections}]", "threads=1"]
    done = subprocess.run(
        [*command, "measuring.cases=[group,mixed,skewed,large]", f"hydra.run.dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "speed.json").read_text())
    assert list(result["sections"]) == sections.split(",")
    assert result["environment"]["threads"] == 1
    ways = result["sections"]["rollouts"]["ways"]
    assert {one["case"] for one in ways} == {"group", "mixed", "skewed", "large"}
    for case in ("group", "mixed", "skewed", "large"):
        assert len({count for one in ways if one["case"] == case for count in one["tokens"]}) == 1
    pattern_ways = result["sections"]["pattern"]["ways"]
    assert {count for one in pattern_ways for count in one["tokens"]} == {4 * 4 * 2 * 4}
    assert result["sections"]["pattern"]["calls"] == 32
    for point in result["sections"]["scaling"]["points"]:
        assert point["tokens_written"] == point["turns"] * point["tokens"]
    for name in ("scaling.png", "scaling.svg", "speed.md", "environment.json"):
        assert (tmp_path / name).stat().st_size > 100
    assert "By phase" in done.stdout


def test_a_mistake_ends_with_code_2_before_anything_loads(capsys: pytest.CaptureFixture[str]) -> None:
    def forbidden(config: Any, directory: Path) -> None:
        raise AssertionError("it ran")

    assert configuration.launch("speed", forbidden, ["model=tiny", "measure=[rollout]"]) == 2
    assert "measuring.sections" in capsys.readouterr().err


def test_processes_are_compared_per_step_without_the_warm_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def trained(overrides: list[str], size: int) -> list[dict[str, Any]]:
        seconds = {1: 3.0, 2: 2.0}[size]
        one = {"time/rollout": seconds, "time/reward": 0.0, "time/train": 1.0, "tokens/generated": 100}
        return [{**one, "time/rollout": 50.0, "traffic_bytes": 0}, {**one, "traffic_bytes": 2048}]

    monkeypatch.setattr(processes, "trained", trained)
    found = processes.measure(bench(tmp_path, "measuring.warmup=1", "rounds=2", "model.lora.r=4"))
    ratios = {row["case"]: row["speedup"]["median"] for row in found.numbers["rows"] if row["way"] == "2 processes"}
    assert ratios == {"rollouts": 1.5, "gradients": 1.0, "whole step": pytest.approx(4 / 3)}
    assert found.numbers["traffic_bytes"] == [2048]
    assert found.notes == ["A process sends 2 KiB per step: rollouts and gradients."]


def test_processes_train_what_the_command_was_configured_with(tmp_path: Path) -> None:
    overrides = processes.arguments(bench(tmp_path, "rounds=2", "model.lora.r=4", "reward=tree", "measuring.limit=2"))
    settings = configuration.compose("train", overrides).settings
    assert (settings.rounds.n, settings.model.lora.r, settings.model.name) == (2, 4, "embedded:tiny")
    assert settings.train.threads == 1
