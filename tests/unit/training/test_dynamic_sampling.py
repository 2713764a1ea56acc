"""Dynamic sampling replaces problems whose rollouts give no learning signal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from src.algorithms.grpo import GRPO
from src.config import compose, resume
from src.credit.base import Credited
from src.credit.first import First
from src.rounds.mixture import Assigned
from src.train import train
from src.training.dynamic_sampling import Batch, collect
from src.training.trainer import Trainer
from src.types import Problem, Rollout, Row, Sampling, Scores, Turn
from tests.conftest import run_small
from tests.integration.test_train import adapter, metrics


class World:
    """Problems whose question lists the correctness of each response: "01" has one wrong and one correct response."""

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
        formed = [{path: value + path[0] for path, value in table.items()} for table in tables]  # values always differ
        return [Scores({}, values, correct) for values, correct in zip(formed, tables, strict=True)]

    def collect(self, problems: Sequence[str], spare: Sequence[str], waves: int) -> Batch:
        first, more = (
            [Problem(f"{name}{index}", text, "") for index, text in enumerate(texts)]
            for name, texts in (("p", problems), ("s", spare))
        )
        credit = partial(First().rows, advantages=GRPO().advantages)
        return collect(first, more, waves, self.grow, self.score, credit)


def test_right_rows_are_final_answers_that_are_right() -> None:
    paths = [((0,), 0.5), ((1,), 1.0), ((2,), 1.0), ((0, 0), 1.0), ((0, 1), 0.0), ((1, 0), 1.0)]
    sources = {(0, 0): ((0,), (1,)), (0, 1): ((0,), (1,)), (1, 0): ((1,),)}
    trees = [
        Rollout(
            Problem(f"p{tree}", "", ""),
            tuple(
                Turn(path, (1,), Sampling(4), tree=tree, status="done", completion=(2,), sources=sources.get(path))
                for path, _ in paths
            ),
        )
        for tree in (0, 1)
    ]
    scores = [Scores({}, {}, dict(paths)), Scores({}, {}, dict.fromkeys(dict(paths), 0.0))]
    rows = [Row.of(turn, 0.0, 1.0) for tree in trees for turn in tree.turns]
    batch = Batch(trees, scores, Credited(rows, 0, 0), 0, 0.0)
    found = [(row.tree, row.path) for row, right in zip(rows, batch.right, strict=True) if right]
    assert found == [(0, (2,)), (0, (0, 0)), (0, (1, 0))]  # drafts that are quoted are no answers


def test_a_problem_is_replaced_within_its_part_of_a_mixture() -> None:
    world, credit = World(), partial(First().rows, advantages=GRPO().advantages)
    texts = [("01", "a"), ("00", "a"), ("11", "b"), ("10", "b")]
    first = [Assigned(f"p{place}", text, "", part=part) for place, (text, part) in enumerate(texts)]
    spare = [Problem(f"s{place}", text, "") for place, text in enumerate(["00", "01", "10", "10"])]
    found = collect(first, spare, 2, world.grow, world.score, credit)
    assert world.asked == [["p0", "p1", "p2", "p3"], ["s0", "s1"], ["s2"]]
    parts = [(tree.problem.id, tree.problem.part) for tree in found.rollouts]  # type: ignore[attr-defined]
    assert parts[4:] == [("s0", "a"), ("s1", "b"), ("s2", "a")]
    assert learned(found) == ["p0", "p3", "s1", "s2"]


def learned(found: Batch) -> list[str]:
    """Ids of the problems whose rollouts gave rows."""
    return [found.rollouts[tree].problem.id for tree in dict.fromkeys(row.tree for row in found.credited.rows)]


def test_rollouts_with_equal_outcomes_are_replaced_wave_by_wave() -> None:
    world = World()
    found = world.collect(["11", "01", "00", "1"], ["00", "10", "11", "11", "01", "01", "01"], 5)
    # wave 1: three rollouts are missing; wave 2: two, since only s1 was informative; wave 3: one
    assert world.asked == [["p0", "p1", "p2", "p3"], ["s0", "s1", "s2"], ["s3", "s4"], ["s5"]]
    assert learned(found) == ["p1", "s1", "s4", "s5"]
    assert [tree.problem.id for tree in found.rollouts] == [name for wave in world.asked for name in wave]
    assert [{turn.tree for turn in tree.turns} for tree in found.rollouts] == [{number} for number in range(10)]
    assert sum(tree.tokens for tree in found.rollouts) == 19 * 2  # of all rollouts, kept or not
    assert (len(found.scores), found.dropped) == (10, 6)


@pytest.mark.parametrize(
    ("spare", "waves", "asked"),
    [
        (["11", "11", "01", "01"], 1, [["p0", "p1"], ["s0", "s1"]]),  # the limit on waves is reached
        (["11", "00"], 9, [["p0", "p1"], ["s0", "s1"]]),  # all spares are used
        ([], 9, [["p0", "p1"]]),
    ],
)
def test_a_step_may_end_with_fewer_rollouts(spare: list[str], waves: int, asked: list[list[str]]) -> None:
    world = World()
    found = world.collect(["11", "00"], spare, waves)
    assert world.asked == asked
    assert (found.credited.rows, found.dropped) == ([], len(found.rollouts))


def test_informative_rollouts_need_no_further_wave() -> None:
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


def test_only_dapo_resamples_by_default() -> None:
    assert compose("train", ["algorithm=dapo"]).settings.algorithm.max_resamples > 0
    assert compose("train", ["algorithm=grpo"]).settings.algorithm.max_resamples == 0
