"""Tasks whose own judge accepts one answer to everything."""

from __future__ import annotations

import pytest

from src.benchmarks.base import Splits
from src.benchmarks.reasoning_gym import ReasoningGym
from src.run import check_judges
from src.types import InputError, Problem
from src.verifiers.judge import Judge
from src.verifiers.own import CONSTANTS, Own

PROBLEMS = [Problem(f"t-{n}", f"{n} + 1 =", str(n + 1)) for n in range(20)]


@pytest.mark.parametrize("constant", CONSTANTS)
def test_a_judge_that_accepts_a_constant_is_refused(constant: str) -> None:
    def accepts(problem: Problem, text: str) -> float:
        return float(text == f"<answer>\\boxed{{{constant}}}</answer>" or problem.answer in text)

    (message,) = Own().trial(accepts, PROBLEMS)
    assert message == (
        f"verifier=own accepts the answer {constant!r} on 12 of 12 problems with different answers, so that a model "
        "learns to give it; use verifier=math"
    )


def test_a_constant_that_is_right_sometimes_is_no_fault() -> None:
    def equal(problem: Problem, text: str) -> float:
        return float(f"\\boxed{{{problem.answer}}}" in text)

    assert list(Own().trial(equal, PROBLEMS)) == []
    assert list(Own().trial(equal, [Problem(f"t-{n}", "", "1") for n in range(9)])) == [], "all have the answer 1"
    assert list(Own().trial(equal, [])) == []


@pytest.mark.parametrize(
    ("task", "accepted"), [("coin_flip", "'0.0'"), ("game_of_life_halting", "'0.0'"), ("complex_arithmetic", None)]
)
def test_tasks_of_reasoning_gym(task: str, accepted: str | None) -> None:
    benchmark = ReasoningGym(name=task, task=task, train_size=16, validation_size=1, test_size=1)
    problems = benchmark.load().train
    found = list(Own().trial(benchmark.score, problems))
    assert [accepted in message for message in found] == [True] * len(found) if accepted else found == []
    assert bool(found) == bool(accepted)


@pytest.mark.parametrize("task", ["coin_flip", "game_of_life_halting", "chain_sum", "polynomial_equations"])
def test_answers_without_content_are_right_only_where_the_gold_says_so(task: str) -> None:
    benchmark = ReasoningGym(name=task, task=task, train_size=12, validation_size=1, test_size=1)
    for problem in benchmark.load().train:
        for answer in ("", "0", "1", "True", "None"):
            right = benchmark.score(problem, f"<answer>\\boxed{{{answer}}}</answer>") == 1.0
            assert not right or answer in problem.answer, (problem.answer, answer)


@pytest.mark.parametrize("answer", ["nan", "NaN", "-nan", "nan+nanj", "\\text{nan}", "inf", "Infinity"])
def test_no_number_is_no_answer_to_a_problem_about_numbers(answer: str) -> None:
    benchmark = ReasoningGym(name="c", task="complex_arithmetic", train_size=2, validation_size=1, test_size=1)
    for problem in benchmark.load().train:
        assert benchmark.score(problem, f"<answer>\\boxed{{{answer}}}</answer>") == 0.0
        assert benchmark.score(problem, f"<answer>\\boxed{{{problem.answer}}}</answer>") == 1.0


def test_a_judge_that_raises_on_a_trial_answer_is_refused_by_name() -> None:
    def strict(problem: Problem, text: str) -> float:
        return float(int(text.removeprefix("<answer>\\boxed{").removesuffix("}</answer>")) == int(problem.answer))

    judges, splits = [Own()], Splits(PROBLEMS, [], {"test": PROBLEMS[:3]})
    with pytest.raises(InputError) as caught:
        check_judges(judges, {"own": Judge("own", strict)}, splits, "additions")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["the split train", "the split test"]
    assert "verifier=own raised ValueError on an answer to a problem of benchmark=additions" in str(caught.value)
