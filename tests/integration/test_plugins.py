"""Options of every group can live outside the repository, each as one class and one yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.config import CONF
from tests.conftest import SMALL

CODE = '''
"""Options outside the repository."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from src.algorithms.grpo import GRPO
from src.benchmarks.base import Benchmark, Splits
from src.credit.base import CreditRule, Credited
from src.engines.local.settings import Local
from src.optimizers.adamw import AdamW
from src.rewards.base import Term
from src.rounds.base import Carry, Search
from src.rounds.multi_round import MultiRound
from src.rounds.tool.base import Tool
from src.tracking.base import Tracker, TrackerSettings
from src.types import Problem, Row
from src.verifiers.base import Verifier


class Shout(Carry):
    mark: str = "!"

    def carry(self, lineage, prompts):
        return lineage[-1].text[:20] + self.mark


class Longest(Search):
    probes: ClassVar[bool] = False

    def rank(self, pool, probed):
        return sorted(range(len(pool)), key=lambda index: -len(pool[index].text))


class Backwards(Tool):
    def run(self, text):
        return text[::-1]


class Digits(Term):
    at: ClassVar[Literal["leaves", "turns"]] = "turns"

    def score(self, problem, turn, scorer):
        return sum(character.isdigit() for character in turn.text) / 100


class Everybody(CreditRule):
    learns: ClassVar[Literal["first", "all"]] = "all"

    def rows(self, rollouts, scores, advantages):
        rows = [
            Row.of(turn, score.values[turn.path], 1.0)
            for rollout, score in zip(rollouts, scores, strict=True)
            for turn in score.valued(rollout)
        ]
        return Credited(rows, 1, 0)


class Plain(GRPO):
    def surrogate(self, tokens):
        loss = -tokens.advantages * tokens.logprobs
        return loss, tokens.mask & False


class Slow(AdamW):
    pass


class Additions(Benchmark):
    def load(self):
        def problems(name, count):
            return [Problem(f"{name}-{n}", f"{n} + {len(name)} =", str(n + len(name))) for n in range(count)]

        return Splits(problems("training", 8), problems("checking", 2), {"test": problems("t", 2)})

    def origin(self, split):
        return "additions"

    def score(self, problem, text):
        return float(problem.answer in text)


class Contains(Verifier):
    name: ClassVar[str] = "contains"
    needs_gold: ClassVar[bool] = True

    def scorer(self, own):
        return lambda problem, text: float(problem.answer in text)


def twice(question, gold, answer, times=1):
    if answer == "raise":
        raise ValueError("no")
    return float(answer == gold * times)


class Mine(Local):
    pass


class Lines(Tracker):
    def __init__(self, file):
        self.file = file

    def log(self, metrics):
        with self.file.open("a") as file:
            file.write(str(metrics["step"]))

    def close(self, exit_code):
        with self.file.open("a") as file:
            file.write(f" closed {exit_code}")


class LinesSettings(TrackerSettings):
    def open(self, run, config, choices, id):
        return Lines(run / "tracked.txt")


class Twice(MultiRound):
    """At most two rounds."""

    n: int = Field(2, ge=1, le=2)
'''

YAML = {
    "rounds/carry/shout": "_target_: my_lab.Shout\nmark: '?'\n",
    "rounds/tool/backwards": "_target_: my_lab.Backwards\nopening: <tool>\nclosing: </tool>\n",
    "rounds/search/longest": "_target_: my_lab.Longest\ncandidates: 2\nkeep: 1\n",
    "reward/digits": "_target_: src.rewards.base.Reward\nnormalise: after\nterms:\n"
    "  digits:\n    _target_: my_lab.Digits\n    weight: 1.0\n  outcome:\n    _target_: src.rewards.outcome.Outcome\n",
    "credit/everybody": "_target_: my_lab.Everybody\n",
    "algorithm/plain": "defaults:\n  - grpo\n  - _self_\n_target_: my_lab.Plain\n",
    "optimizer/slow": "defaults:\n  - adamw\n  - _self_\n_target_: my_lab.Slow\nlr: 1.0e-6\n",
    "benchmark/additions": "_target_: my_lab.Additions\nname: additions\ntests: {test: {}}\n",
    "verifier/contains": "_target_: my_lab.Contains\n",
    "verifier/doubled": "_target_: src.verifiers.function.Function\nfunction: my_lab.twice\nsettings: {times: 2}\n",
    "engine/mine": "_target_: my_lab.Mine\nmax_batch_tokens: 8192\n",
    "tracking/lines": "_target_: my_lab.LinesSettings\n",
    "rounds/twice": "defaults:\n  - multi-round\n  - _self_\n_target_: my_lab.Twice\nn: 2\n",
}

WITHOUT_SIZES = [one for one in SMALL if one != "debug=smoke"] + [
    *("train.steps=2", "train.problems=2", "evaluation.every=1", "evaluation.samples=2", "rounds.responses=4"),
    *("rounds.trajectories=2", "checkpoint.every=1", "tracking=lines"),
]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laboratory")
    (folder / "my_lab.py").write_text(CODE, encoding="utf-8")
    for name, text in YAML.items():
        file = folder / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def train(laboratory: Path, run: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Train with a working directory outside the repository."""
    command = [sys.executable, "-m", "src.train", "--config-dir", str(laboratory / "conf"), *WITHOUT_SIZES]
    environment = {**os.environ, "PYTHONPATH": f"{laboratory}{os.pathsep}{CONF.parent}"}
    return subprocess.run(
        [*command, f"hydra.run.dir={run}", *overrides],
        cwd=laboratory,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )


@pytest.mark.parametrize("further", [[], ["-m"], ["--cfg", "job"], ["seed=x"]])
def test_an_option_that_is_not_yaml_is_named_with_its_line(further: list[str], tmp_path: Path) -> None:
    file = tmp_path / "reward" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("_target_: src.rewards.Outcome\nweights: {a: 1,\n", encoding="utf-8")
    command = [sys.executable, "-m", "src.train", "--config-dir", str(tmp_path), "reward=mine", *further]
    result = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CONF.parent)}, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert f"{file}, line 3: not valid YAML" in result.stderr
    assert "Traceback" not in result.stderr


EVERYTHING = [
    *("rounds=twice", "rounds/carry=shout", "reward=digits", "credit=everybody", "algorithm=plain", "optimizer=slow"),
    *("benchmark=additions", "verifier=contains", "engine=mine", "rounds/tool=backwards"),
]


def test_a_plug_in_of_every_kind_runs_from_outside_the_repository(laboratory: Path, tmp_path: Path) -> None:
    assert {name.rpartition("/")[0] for name in YAML} >= {
        folder.relative_to(CONF).as_posix()
        for folder in CONF.rglob("*")
        if folder.is_dir()
        and not {"debug", "experiment", "study", "table", "model", "parallel"} & set(folder.relative_to(CONF).parts)
    }, "a group has no plug-in here"
    done = train(laboratory, tmp_path / "run", *EVERYTHING)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert set(lines[0]) >= {"reward/digits", "completion/round_2/mean_tokens"}
    assert "completion/round_3/mean_tokens" not in lines[0]
    assert lines[-1]["lr"] <= 1e-6
    assert (tmp_path / "run" / "tracked.txt").read_text() == "12 closed 0"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {one["verifier"] for one in summary["evaluations"]["after"]} == {"contains"}
    rollout = json.loads((tmp_path / "run" / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
    assert all(turn["carried"].endswith("?") for turn in rollout["turns"] if turn["round"] == 2)


def test_a_search_from_outside_the_repository_runs(laboratory: Path, tmp_path: Path) -> None:
    overrides = ["rounds/search=longest", "rounds.probes=1", "benchmark=additions", "verifier=contains"]
    done = train(laboratory, tmp_path / "run", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_in_settings_of_a_plug_in_are_reported(laboratory: Path, tmp_path: Path) -> None:
    done = train(
        laboratory, tmp_path / "run", "rounds=twice", "rounds.n=3", "rounds/carry=shout", "rounds.carry.mark=3"
    )
    assert done.returncode == 2
    assert "rounds.n=3 must be in [1, 2]" in done.stderr
    assert "rounds.carry.mark=3: must be text" in done.stderr


def test_a_function_is_a_verifier_and_a_further_one(laboratory: Path, tmp_path: Path) -> None:
    judges = ["verifier=doubled", "evaluation.also=[contains,my_lab.Contains]", "benchmark=additions"]
    done = train(laboratory, tmp_path / "run", *judges)
    assert done.returncode == 2
    assert "the verifier contains is already in use" in done.stderr
    done = train(laboratory, tmp_path / "run", "verifier=doubled", "evaluation.also=[contains]", "benchmark=additions")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {one["verifier"] for one in summary["evaluations"]["after"]} == {"twice"}
    assert summary["verifier_failures"] == 0
    (evaluation,) = (tmp_path / "run" / "evaluation" / "step_2").glob("*rounds3.json")
    assert set(json.loads(evaluation.read_text())["also"]) == {"contains"}


def test_a_function_that_is_not_there_is_refused(laboratory: Path, tmp_path: Path) -> None:
    done = train(laboratory, tmp_path / "run", "verifier=function", "verifier.function=my_lab.thrice")
    assert done.returncode == 2
    assert "verifier.function=my_lab.thrice cannot be imported" in done.stderr
