"""reasoning-gym problems, splits and verdicts; and the demonstrations of the same task."""

from __future__ import annotations

import itertools
import math
import random
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from src.benchmarks.base import Splits
from src.benchmarks.reasoning_gym import SEED_STRIDE, ReasoningGym
from src.config import compose
from src.sft.demonstrations import QUESTION, Demonstrations, draw
from src.types import InputError
from src.verifiers.tags import progress
from tests.helpers.sections import mistakes, run_mistakes


@pytest.fixture(scope="module")
def benchmark() -> ReasoningGym:
    return compose("train").settings.benchmark


@pytest.fixture(scope="module")
def splits(benchmark: ReasoningGym) -> Splits:
    return benchmark.load()


def parts(splits: Splits) -> dict[str, list]:
    return {"train": list(splits.train), "validation": list(splits.validation), **splits.tests}


def test_no_question_occurs_twice(splits: Splits) -> None:
    questions = [problem.question for problems in parts(splits).values() for problem in problems]
    assert len(questions) == 4096 + 128 + 2 * 512
    assert len(set(questions)) == len(questions)


def test_no_seed_of_the_generator_is_used_twice(splits: Splits) -> None:
    index = {"train": 0, "validation": 1, "easy": 2, "hard": 3}
    seeds = {
        (index[name] * SEED_STRIDE) + int(problem.id.rpartition("-")[2])
        for name, problems in parts(splits).items()
        for problem in problems
    }
    assert len(seeds) == sum(map(len, parts(splits).values()))


def box(answer: str) -> str:
    return f"<answer>\\boxed{{{answer}}}</answer>"


@pytest.mark.parametrize(("split", "terms"), [("train", {4, 5, 6}), ("easy", {4, 5, 6}), ("hard", {9, 10, 11})])
def test_splits_have_their_lengths(splits: Splits, split: str, terms: set[int]) -> None:
    assert {len(re.findall(r"\d+", problem.question)) for problem in parts(splits)[split]} == terms


def test_the_same_settings_give_the_same_problems(benchmark: ReasoningGym, splits: Splits) -> None:
    assert benchmark.load() == splits


def test_every_gold_is_right_and_its_neighbours_is_not(benchmark: ReasoningGym, splits: Splits) -> None:
    problems = splits.tests["hard"]
    assert [benchmark.score(problem, box(problem.answer)) for problem in problems] == [1.0] * 512
    for problem, other in itertools.pairwise(problems):
        assert benchmark.score(problem, box(other.answer)) == float(problem.answer == other.answer)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        *[("12", 1), (" 12", 1), ("12.0", 1), ("012", 1), ("-12", 0), ("x12", 0), ("12 or 13", 0), (None, 0), ("", 0)],
        *[("1e99999999", 0), ("9" * 100_000, 0), ("NaN", 0), ("\x00", 0), ("__import__('os')", 0)],
    ],
)
def test_verdicts(benchmark: ReasoningGym, splits: Splits, answer: str | None, verdict: float) -> None:
    problem = next(problem for problem in splits.tests["hard"] if problem.answer == "12")
    assert benchmark.score(problem, box(answer) if answer is not None else "no answer") == verdict


def values(task: str, **options: Any) -> dict[str, Any]:
    return {"name": task, "task": task, "train_size": 3, "validation_size": 1, "test_size": 2, **options}


def small(task: str, **options: Any) -> ReasoningGym:
    return ReasoningGym(**values(task, **options))


def errors(task: str, **options: Any) -> list[str]:
    given = values(task, **options)
    return mistakes(ReasoningGym, "benchmark", **given) or run_mistakes(ReasoningGym(**given))


@pytest.mark.parametrize("task", ["gcd", "countdown", "family_relationships"])
def test_any_task_is_judged_by_its_own_verifier(task: str) -> None:
    gym = small(task)
    problems = gym.load().train
    assert [gym.score(problem, box(problem.answer)) for problem in problems] == [1.0] * 3
    assert [gym.score(problem, box("nonsense")) for problem in problems] == [0.0] * 3


def test_a_verifier_that_evaluates_answers_cannot_be_used_to_run_code(tmp_path: Path) -> None:
    gym, place = small("countdown"), tmp_path / "made"
    problem = gym.load().train[0]
    attacks = [f"__import__('os').system('touch {place}')", f"open('{place}', 'w').write('x')", "9**9**9**9"]
    assert not any(gym.score(problem, box(attack)) > 0 for attack in attacks)
    assert not place.exists()
    assert gym.score(problem, box(problem.answer)) == 1.0


@pytest.mark.parametrize(
    ("task", "options", "text"),
    [
        ("gdc", {}, "valid, e.g.: gcd"),
        ("gcd", {"params": {"length": 3}}, "gcd has no option length; valid: "),
        ("chain_sum", {"params": {"min_terms": 5, "max_terms": 4}}, "max_terms must be >= min_terms"),
        ("gcd", {"tests": {"far": {"digits": 9}}}, "benchmark.tests.far: gcd has no option digits"),
        (
            "gcd",
            {"tests": {"other": {"task": "lmc"}}},
            "benchmark.tests.other.task='lmc' is not a reasoning-gym task",
        ),
        (
            "gcd",
            {"tests": {"other": {"task": "lcm", "length": 3}}},
            "benchmark.tests.other: lcm has no option length",
        ),
        ("gcd", {"tests": {"a": {"task": "lcm", "max_value": 0}}}, "benchmark.tests.a: lcm rejects these options"),
        (
            "gdc",
            {"tests": {"other": {"task": "lcm", "length": 3}}},
            "benchmark.tests.other: lcm has no option length",
        ),
        ("gcd", {"tests": {"a": {"task": "countdown"}}, "perturb": ["typos"]}, "typos is not valid for countdown"),
        ("gcd", {"test_size": 0}, "benchmark.test_size=0 must be 1 or more"),
        ("gcd", {"threshold": 2.0}, "benchmark.threshold=2.0 must be in (0, 1]"),
    ],
)
def test_mistakes_are_named(task: str, options: dict[str, Any], text: str) -> None:
    found = errors(task, **options)
    assert any(text in error for error in found), found


def test_a_mistake_is_reported_once() -> None:
    tests: dict[str, dict[str, int]] = {"near": {}, "far": {"max_value": 9}}
    assert len(errors("gdc", tests=tests)) == 1
    assert len(errors("gcd", params={"length": 3}, tests=tests)) == 1


def test_a_test_split_of_another_task_has_its_own_options_and_verifier() -> None:
    tests = {"sums": {}, "longer": {"max_terms": 7}, "divisors": {"task": "gcd"}, "count": {"task": "countdown"}}
    params = {"min_terms": 4, "max_terms": 5}
    assert "typos is not valid for countdown" in "".join(
        errors("chain_sum", params=params, tests=tests, perturb=["typos"])
    )
    gym = small("chain_sum", params=params, tests=tests)
    assert run_mistakes(gym) == []
    splits = gym.load()
    assert {problem.metadata["source_dataset"] for problem in splits.train} == {"chain_sum"}
    for split, task in {"sums": "chain_sum", "longer": "chain_sum", "divisors": "gcd", "count": "countdown"}.items():
        for problem in splits.tests[split]:
            assert problem.metadata["source_dataset"] == task
            assert gym.score(problem, box(problem.answer)) == 1.0
            assert gym.score(problem, box(problem.answer + "1")) == 0.0
    divisors = splits.tests["divisors"][0]
    assert int(divisors.answer) == math.gcd(*divisors.metadata["numbers"])
    assert gym.score(divisors, box(divisors.answer + ".0")) == 0.0  # a sum's verifier would let it pass
    assert gym.score(splits.tests["sums"][0], box(splits.tests["sums"][0].answer + ".0")) == 1.0
    other = splits.tests["count"][0]
    assert gym.score(other, box(f"0 + {other.answer}")) == 0.0  # uses a number that was not given
    assert gym.score(other, box(f"({other.answer})")) == 1.0  # other words for the gold: judged by evaluation


def test_each_split_is_judged_with_the_options_that_it_was_drawn_with() -> None:
    places = {"min_num_decimal_places": 5, "max_num_decimal_places": 5}  # the verifier lets the last one be off by one
    gym = small("decimal_arithmetic", tests={"rough": {}, "exact": places})
    rough, exact = (gym.load().tests[split][0] for split in ("rough", "exact"))
    near = {problem: str(Decimal(problem.answer) + Decimal("0.0005")) for problem in (rough, exact)}
    assert [gym.score(problem, box(problem.answer)) for problem in near] == [1.0, 1.0]
    assert [gym.score(problem, box(answer)) for problem, answer in near.items()] == [1.0, 0.0]


def test_a_task_without_enough_questions_is_reported() -> None:
    tiny = {"min_terms": 1, "max_terms": 1, "min_digits": 1, "max_digits": 1}
    with pytest.raises(InputError, match=r"only \d+ new questions for the split 'train', but 50 are needed"):
        small("chain_sum", params=tiny, train_size=50).load()


def test_demonstrations_ask_what_the_benchmark_asks(splits: Splits) -> None:
    for problem in splits.train[:50]:
        assert problem.question == QUESTION.format(expression=problem.metadata["expression"])


def value(expression: str) -> int:
    return sum(map(int, re.findall(r"[+-]?\d+", expression.replace(" ", ""))))


def test_demonstrations_never_miscalculate() -> None:
    rng, settings = random.Random(0), Demonstrations()
    drawn = [draw(rng, settings) for _ in range(3000)]
    guesses = copies = 0
    for one in drawn:
        expression = re.findall(r"problem: (.*) =", one.question)[0]
        state = progress(one.before[-1]) if one.before else expression.replace(" ", "")
        reasoning, answer = re.findall(r"<reasoning>(.*)</reasoning><answer>(.*)</answer>", one.completion)[0]
        if state.startswith("\\boxed"):
            copies += 1
            assert (reasoning, answer) == ("", state)
        elif reasoning:
            *steps, last = reasoning.split("=")
            results = [int(re.match(r"-?\d+", step)[0]) for step in [*steps[1:], last]]  # type: ignore[index]
            assert results == [value(step) for step in steps]
            done = str(results[-1])
            consumed = "".join([re.match(r"-?\d+", steps[0])[0], *(re.sub(r"^-?\d+", "", step) for step in steps)])  # type: ignore[index]
            assert state.startswith(consumed)
            rest = state.removeprefix(consumed)
            assert answer == (done + rest if rest else f"\\boxed{{{done}}}")
            assert rest == "" or (not one.final and len(steps) <= settings.max_operations)
        elif answer.startswith("\\boxed"):
            guesses += 1
        else:
            assert answer == state
            assert not one.final
    # A guess ends what there is to demonstrate of its chain, so it is shown more often than it is made.
    assert guesses / (len(drawn) - copies) == pytest.approx(0.32, abs=0.03)
    assert copies / len(drawn) == pytest.approx(0.036, abs=0.012)  # half of the chains hold no such turn
    assert {one.round for one in drawn} == set(range(1, 9))


def test_excluded_questions_are_never_demonstrated() -> None:
    settings = Demonstrations(min_terms=2, max_terms=2)
    seen = {draw(random.Random(seed), settings).question for seed in range(300)}
    half = frozenset(sorted(seen)[::2])
    assert not {draw(random.Random(seed), settings, half).question for seed in range(300)} & half
