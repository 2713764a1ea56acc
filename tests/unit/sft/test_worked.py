"""Worked solutions of reasoning-gym's tasks: by hand, and every last step against the task's own answer."""

from __future__ import annotations

import random
import re

import pytest

from src.config import compose
from src.sft import solutions
from src.sft.worked import TASKS, worked
from src.types import Problem
from src.verifiers.tags import progress, stated_answer

OPTIONS = {
    "chain_sum": ["min_terms=3", "max_terms=6", "max_digits=2"],
    "basic_arithmetic": ["operators=['+','-']", "allow_parentheses=false", "max_digits=2"],
    "leg_counting": ["max_instances=9"],
    "gcd": ["min_value=2", "max_value=60"],
    "number_filtering": ["max_decimals=1", "min_value=-20", "max_value=20"],
}


def problems(task, count=200):
    given = [f"+benchmark.params.{option}" for option in OPTIONS.get(task, ())]
    sizes = [f"benchmark.train_size={count}", "benchmark.validation_size=1", "benchmark.test_size=1"]
    benchmark = compose(
        "train", ["benchmark=reasoning-gym", f"benchmark.task={task}", *given, *sizes]
    ).settings.benchmark
    return benchmark, benchmark.load().train


def by_hand(task, **data):
    return [tuple(step) for step in worked(Problem("p", "?", "?", {"source_dataset": task, **data}))]


def test_steps_by_hand():
    assert by_hand("chain_sum", expression="4 - 9 + 3") == [("4 - 9 = -5", "-5 + 3"), ("-5 + 3 = -2", "-2")]
    assert by_hand("leg_counting", animals={"cat": 2, "human": 3}) == [
        ("0 + 2 * 4 = 8", "8, 3 human"),
        ("8 + 3 * 2 = 14", "14"),
    ]
    assert by_hand("letter_counting", span=["Mama", "met", "us"], target_letter="m") == [
        ("Mama 2, 2", "2 met us"),
        ("met 1, 3", "3 us"),
        ("us 0, 3", "3"),
    ]
    assert by_hand("gcd", numbers=[12, 8]) == [("12 - 8 = 4", "4, 8"), ("8 - 4 = 4", "4, 4")]
    assert by_hand("gcd", numbers=[7, 7]) == [("7 = 7", "7")]
    assert by_hand("number_filtering", original_numbers=["1", "-4", "1"], result=["1", "1"]) == [
        ("1 yes", "kept 1, left -4 1"),
        ("-4 no", "kept 1, left 1"),
        ("1 yes", "kept 1 1, left "),
    ]


def test_what_cannot_be_worked_out_has_no_steps():
    assert by_hand("chain_sum", expression="2 * (3 + 4)") == []
    assert by_hand("gcd", numbers=[12, 8, 4]) == []
    assert by_hand("products", expression="2 * 3") == []
    assert worked(Problem("p", "?", "3", {})) == []


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_rounds_of_a_solution_end_in_an_answer_that_the_task_accepts(task):
    benchmark, drawn = problems(task)
    rng = random.Random(0)
    for problem in drawn:
        *before, last = solutions.rounds(problem, 3, rng, "rest")
        assert benchmark.score(problem, last) == 1.0
        assert not any(stated_answer(text) for text in before)
        assert [progress(text) for text in before] == [
            left for left in solutions.rest(problem) if left in {progress(text) for text in before}
        ]


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"number_filtering"}))
def test_the_last_step_gives_the_gold_answer(task):
    for problem in problems(task)[1]:
        assert worked(problem)[-1].left.split(", ")[-1] == problem.answer


def test_the_last_step_of_a_filter_gives_the_gold_list():
    for problem in problems("number_filtering")[1]:
        kept = re.fullmatch(r"kept (.*), left ", worked(problem)[-1].left)
        assert kept[1] == (" ".join(re.findall(r"'([^']*)'", problem.answer)) or "none")
