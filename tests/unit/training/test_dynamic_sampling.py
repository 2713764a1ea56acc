"""Dynamic sampling: problems whose rollouts teach nothing are replaced."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from src.algorithms.grpo import GRPO
from src.config import compose, resume
from src.credit.first import First
from src.train import train
from src.training.dynamic_sampling import Batch, collect
from src.training.trainer import Trainer
from src.types import Problem, Rollout, Sampling, Scores, Turn
from tests.conftest import run_small
from tests.integration.test_train import adapter, metrics


class World:
    """Problems named by how right their two responses are: "01" has one right response, "11" two, "1" one in all."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def grow(self, problems: Sequence[Problem]) -> list[Rollout]:
        self.asked.append([problem.id for problem in problems])
        return [
            Rollout(
                problem,
                tuple(
                    Turn((index,), (1,), Sampling(4), tree=tree, status="done", completion=(2, 3), logprobs=(0.0, 0.0))
                    for index in range(len(problem.question))
                ),
            )
            for tree, problem in enumerate(problems)
        ]

    def score(self, trees: Sequence[Rollout]) -> list[Scores]:
        tables = [{turn.path: float(tree.problem.question[turn.path[0]]) for turn in tree.turns} for tree in trees]
        formed = [{path: value + path[0] for path, value in table.items()} for table in tables]  # always a spread
        return [Scores({}, values, correct) for values, correct in zip(formed, tables, strict=True)]

    def collect(self, problems: Sequence[str], spare: Sequence[str], waves: int) -> Batch:
        first, more = (
            [Problem(f"{name}{index}", text, "") for index, text in enumerate(texts)]
            for name, texts in (("p", problems), ("s", spare))
        )
        credit = partial(First().rows, advantages=GRPO().advantages)
        return collect(first, more, waves, self.grow, self.score, credit)


def learned(found: Batch) -> list[str]:
    """Problems whose trees gave rows, by the number that the rows carry."""
    return [found.rollouts[tree].problem.id for tree in dict.fromkeys(row.tree for row in found.credited.rows)]


def test_trees_without_a_spread_of_outcome_are_replaced_wave_by_wave() -> None:
    world = World()
    found = world.collect(["11", "01", "00", "1"], ["00", "10", "11", "11", "01", "01", "01"], 5)
    # three are missing; then two, since of the first spares only s1 helps; then one
    assert world.asked == [["p0", "p1", "p2", "p3"], ["s0", "s1", "s2"], ["s3", "s4"], ["s5"]]
    assert learned(found) == ["p1", "s1", "s4", "s5"]
    assert [tree.problem.id for tree in found.rollouts] == [name for wave in world.asked for name in wave]
    assert [{turn.tree for turn in tree.turns} for tree in found.rollouts] == [{number} for number in range(10)]
    assert sum(tree.tokens for tree in found.rollouts) == 19 * 2  # all that was written, kept or not
    assert (len(found.scores), found.dropped) == (10, 6)


@pytest.mark.parametrize(
    ("spare", "waves", "asked"),
    [
        (["11", "11", "01", "01"], 1, [["p0", "p1"], ["s0", "s1"]]),  # as many waves as allowed
        (["11", "00"], 9, [["p0", "p1"], ["s0", "s1"]]),  # no spare is left
        ([], 9, [["p0", "p1"]]),
    ],
)
def test_a_step_may_end_with_fewer_trees(spare: list[str], waves: int, asked: list[list[str]]) -> None:
    world = World()
    found = world.collect(["11", "00"], spare, waves)
    assert world.asked == asked
    assert (found.credited.rows, found.dropped) == ([], len(found.rollouts))


def test_enough_at_once_ask_for_no_more() -> None:
    world = World()
    found = world.collect(["10", "01"], ["01"], 3)
    assert (world.asked, found.dropped) == ([["p0", "p1"]], 0)


SETTINGS = ["algorithm=dapo", "algorithm.max_resamples=2", "rounds=1", "train.steps=3", "evaluation.before=false"]
SETTINGS += ["rounds.responses=2"]


def test_a_run_with_dynamic_sampling_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_small(tmp_path / "whole", *SETTINGS)
    lines = metrics(whole)
    assert any(line["dropped_problems"] > 0 for line in lines)
    seen = [0, *(line["problems_seen"] for line in lines)]
    for index, line in enumerate(lines):
        assert 0 < line["problems_seen"] - seen[index] - line["dropped_problems"] <= 2 or line["tokens/trained"] == 0
    trees = [json.loads(line) for line in (whole / "rollouts" / "step_000001.jsonl").read_text().splitlines()]
    assert len(trees) == lines[0]["problems_seen"]
    assert len({tree["problem"]["id"] for tree in trees}) == len(trees)
    assert lines[0]["tokens/generated"] == sum(turn["tokens"] for tree in trees for turn in tree["turns"])

    honest = Trainer.step

    def broken(self: Trainer, step: int) -> dict:
        if step == 2:
            raise RuntimeError("power cut")
        return honest(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            run_small(tmp_path / "cut", *SETTINGS)
    directory, config = resume([f"resume={tmp_path / 'cut'}"])
    train(config, directory)
    assert metrics(tmp_path / "cut") == lines
    assert adapter(tmp_path / "cut") == adapter(whole)


def test_only_the_published_recipe_replaces_problems_by_itself() -> None:
    assert compose("train", ["algorithm=dapo"]).settings.algorithm.max_resamples > 0
    assert compose("train", ["algorithm=grpo"]).settings.algorithm.max_resamples == 0
