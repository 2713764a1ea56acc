"""Perturbed test problems: same ids, correct golds, and no unintended changes."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.robustness import plot
from src.benchmarks.base import Splits
from src.benchmarks.perturbations import MATHS, NAMES, PERTURBATIONS, PROSE, VALID, WORD, count_perturbed, perturbed
from src.benchmarks.reasoning_gym import ReasoningGym, build_verifier
from src.config import ROOT
from src.evaluation.results import Evaluated, Results
from src.evaluation.statistics import accuracy, paired_difference, wilson
from src.sft.demonstrations import QUESTION
from src.types import InputError, Problem
from tests.helpers.markdown_tables import rows
from tests.helpers.sections import run_mistakes

DATA = ROOT.parent / "shared" / "data"
CHAIN = VALID["chain_sum"]
SHOP = (
    "Janet's shop opened at 8 a.m. on Monday. She sold 12 pens for $20 and 5 books for $30. Mr. Smith paid 3.50 for "
    "a map. Paul bought 7 maps. How much did Janet and Paul earn?"
)


def only(*problems: Problem, train: tuple[Problem, ...] = ()) -> Splits:
    return Splits(train, [], {"test": problems})


def words(question: str, answer: str = "1", **metadata: Any) -> Problem:
    return Problem("p", question, answer, metadata)


def after(problem: Problem, name: str, seed: int = 0) -> Problem:
    return perturbed(only(problem), [name], seed).tests[f"test-{name}"][0]


def chain(expression: str, id: str = "p") -> Problem:
    metadata = {"source_dataset": "chain_sum", "expression": expression}
    return Problem(id, QUESTION.format(expression=expression), str(value(expression)), metadata)


def signed(expression: str) -> list[int]:
    """The terms with their signs, read from the text alone."""
    plain = expression.replace(" ", "").replace("+-", "-").replace("--", "+")
    return [int(term) for term in re.findall(r"[+-]?\d+", plain)]


def value(expression: str) -> int:
    return sum(signed(expression))


@st.composite
def expressions(draw: st.DrawFn) -> str:
    numbers = draw(st.lists(st.integers(-999, 999), min_size=3, max_size=8))
    signs = draw(st.lists(st.sampled_from("+-"), min_size=len(numbers), max_size=len(numbers)))
    return f"{numbers[0]}" + "".join(f" {sign} {one}" for sign, one in zip(signs, numbers[1:], strict=False))


def test_the_reference_parser_of_these_tests_reads_signs() -> None:
    assert signed("-3 + -12 - 4 - -5 + 60") == [-3, -12, -4, 5, 60]


# Chain sums


@given(expressions(), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_a_renumbered_sum_has_its_own_gold_and_keeps_its_shape(expression: str, seed: int) -> None:
    new = after(chain(expression), "renumbered", seed)
    asked = re.fullmatch(re.escape(QUESTION).replace(r"\{expression\}", "(.*)"), new.question)[1]  # type: ignore[index]
    assert new.metadata == {"source_dataset": "chain_sum", "expression": asked, "perturbed": True}
    assert int(new.answer) == value(asked)
    assert re.sub(r"\d", "0", asked) == re.sub(r"\d", "0", expression)  # as many digits, the same signs
    assert all(not number.startswith("0") or number == "0" for number in re.findall(r"\d+", asked))


@given(expressions(), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_a_reordered_sum_has_the_same_terms_and_gold(expression: str, seed: int) -> None:
    original = chain(expression)
    perturbations = perturbed(Splits([], [], {"test": [original, chain("1 + 2 - 3", "q")]}), ["reordered"], seed)
    new = perturbations.tests["test-reordered"][0]
    assert new.question == QUESTION.format(expression=new.metadata["expression"])
    assert Counter(signed(new.metadata["expression"])) == Counter(signed(expression))
    assert new.answer == original.answer
    assert new.metadata["perturbed"] == (new.question != original.question)


def test_reordering_a_sum_is_deterministic() -> None:
    found = {after(chain("1 + 2 - 3"), "reordered", seed).metadata["expression"] for seed in range(40)}
    assert found == {"1 - 3 + 2", "2 + 1 - 3", "2 - 3 + 1"}  # not the one that was given, and none starts with a minus


def test_a_sum_that_cannot_change_is_left_as_it_is() -> None:
    splits = perturbed(only(chain("3 - 4", "a"), chain("3 + 4 - 5", "b")), ["reordered"])
    fixed, moved = splits.tests["test-reordered"]
    assert (fixed, fixed.metadata["perturbed"]) == (splits.tests["test"][0], False)
    assert moved.metadata["perturbed"]
    assert count_perturbed(splits.tests["test-reordered"]) == 1
    with pytest.raises(InputError, match="reordered changes no problem of the test split test"):
        perturbed(only(chain("3 - 4")), ["reordered"])


def test_a_changed_question_is_never_a_training_question() -> None:
    known = (chain("1 - 3 + 2"), chain("2 + 1 - 3"))
    found = {
        perturbed(only(chain("1 + 2 - 3"), train=known), ["reordered"], seed).tests["test-reordered"][0].question
        for seed in range(20)
    }
    assert found == {QUESTION.format(expression="2 - 3 + 1")}


def test_golds_of_a_whole_benchmark_are_right_and_judged_right() -> None:
    params = {"min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 3, "allow_negation": True}
    sizes = {"train_size": 5, "validation_size": 5, "test_size": 60}
    gym = ReasoningGym(name="sums", task="chain_sum", params=params, **sizes, perturb=CHAIN)
    assert run_mistakes(gym) == []
    splits = gym.load()
    original = splits.tests["test"]
    assert list(splits.tests) == ["test", *(f"test-{name}" for name in CHAIN)]
    for name in CHAIN:
        problems = splits.tests[f"test-{name}"]
        assert [problem.id for problem in problems] == [problem.id for problem in original]
        assert count_perturbed(problems) >= 55
        for problem, before in zip(problems, original, strict=True):
            assert problem.answer == str(value(problem.question.rpartition(": ")[2].removesuffix(" =")))
            assert gym.score(problem, f"<answer>\\boxed{{{problem.answer}}}</answer>") == 1.0
            if name != "renumbered":
                assert problem.answer == before.answer
            assert (problem.question != before.question) == problem.metadata["perturbed"]


# All of them


def many() -> list[Problem]:
    return [replace(chain(f"{n} + {n % 7} - 4 + 1{n}"), id=f"test-{n}") for n in range(30)]


@pytest.mark.parametrize("name", CHAIN)
def test_a_perturbation_does_not_depend_on_other_problems(name: str) -> None:
    problems = many()
    together = perturbed(Splits([], [], {"test": problems}), [name]).tests[f"test-{name}"]
    backwards = perturbed(Splits([], [], {"test": problems[::-1]}), CHAIN).tests[f"test-{name}"]
    assert together == backwards[::-1]
    assert together != perturbed(Splits([], [], {"test": problems}), [name], seed=1).tests[f"test-{name}"]


def test_originals_stay_and_no_perturbation_changes_nothing() -> None:
    splits = Splits([chain("1 + 1")], [chain("2 + 2")], {"test": many(), "more": many()})
    assert perturbed(splits, []) == splits
    found = perturbed(splits, ["typos", "distractor"])
    names = ["test", "more", "test-typos", "test-distractor", "more-typos", "more-distractor"]
    assert list(found.tests) == names
    assert (found.train, found.validation, found.tests["test"]) == (splits.train, splits.validation, many())


# Prose


def test_sentences_move_in_blocks_that_refer_to_one_another_and_the_question_stays_last() -> None:
    blocks = ["Tom has 5 cats. He gave 2 of them to Ann.", "Every cat eats 3 fish. Then it sleeps.", "A fish costs $2."]
    problem = words("  ".join(blocks) + "\nHow much does Tom pay? Answer with a number.")
    found = {after(problem, "reordered", seed).question for seed in range(60)}
    orders = {tuple(sorted(blocks, key=question.index)) for question in found}
    assert len(orders) == 5  # all but the given one
    for question in found:
        body, _, end = question.partition("\n")
        assert end == "How much does Tom pay? Answer with a number."
        assert sorted(body.split("  ")) == sorted(blocks)


def test_an_abbreviation_or_a_decimal_ends_no_sentence() -> None:
    blocks = [SHOP[: SHOP.index(" Mr.")], SHOP[SHOP.index("Mr.") : SHOP.index(" Paul")], "Paul bought 7 maps."]
    end = " How much did Janet and Paul earn?"
    found = {after(words(SHOP), "reordered", seed).question for seed in range(60)}
    assert found == {" ".join(order) + end for order in itertools.permutations(blocks)} - {SHOP}


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        (SHOP, "How much did"),
        ("There are 3 hats. Find the number of hats. Give your answer in words.", "Find the"),
        ("Let $x = 3.$ Also $y = 4.$ Compute $x + y.$ Express your answer as a fraction.", "Compute"),
        ("What is 3 + 4? Answer with a number.", "What"),
        ("Add 3 and 4.", "Add"),
        ("If there are 3.5 kg of rice, calculate its price at $4. Do not include units.", "If there"),
    ],
)
def test_a_distractor_stands_before_the_sentence_that_asks(text: str, ask: str) -> None:
    new = after(words(text), "distractor")
    before, _, rest = new.question.partition(ask)
    assert text.endswith(ask + rest)
    inserted = before.removeprefix(text.partition(ask)[0])
    assert re.fullmatch(r"[A-Z][^.]* \d\d\b[^.]*\. ", inserted)
    assert new.answer == "1"


def test_a_distractor_never_gives_the_answer_away() -> None:
    assert all("55" not in after(words("Add 3 and 4.", "55"), "distractor", seed).question for seed in range(400))


def test_persons_are_renamed_as_whole_words_one_for_one() -> None:
    text = "Tom and Tommy met Anna. Tom's sister Ann saw Annabel; Anna left. Will Tom go in May?"
    for seed in range(50):
        new = after(words(text), "names", seed).question
        pattern = r"(\w+) and (\w+) met (\w+)\. (\w+)'s sister (\w+) saw Annabel; (\w+) left\. Will (\w+) go in May\?"
        tom, tommy, anna, tom2, ann, anna2, tom3 = re.fullmatch(pattern, new).groups()  # type: ignore[union-attr]
        assert (tom, anna) == (tom2, anna2) == (tom3, anna2)
        assert len({tom, tommy, anna, ann} | {"Tom", "Tommy", "Anna", "Ann"}) == 8
        assert {anna, ann} <= NAMES[0]
        assert {tom, tommy} <= NAMES[1]


def test_names_in_the_gold_stay() -> None:
    new = after(words("Who is older, Tom or Mary?", "Mary"), "names").question
    assert new != "Who is older, Tom or Mary?"
    assert new.endswith("or Mary?")


def test_no_name_is_also_another_word() -> None:
    women, men = NAMES
    assert not women & men
    assert not (women | men) & {"May", "June", "April", "Mark", "Will", "Bill", "Rose", "Grace", "Jordan", "Monday"}


def test_typos_swap_neighbours_and_leave_numbers_and_mathematics_alone() -> None:
    text = (
        r"Suppose that $alpha + beta^{1234}$ equals \frac{1}{2} and \[gamma = delta.\] Three hundred people walk "
        r"2000metres for \$1500 under [asy]draw(circle)[/asy] very cloudy weather; otherwise nobody walks anywhere."
    )
    changed: Counter[str] = Counter()
    for seed in range(60):
        new = after(words(text), "typos", seed).question
        assert [found[0] for found in MATHS.finditer(new)] == [found[0] for found in MATHS.finditer(text)]
        assert sorted(new) == sorted(text)
        for old, other in zip(WORD.findall(text), WORD.findall(new), strict=True):
            if old != other:
                differing = [i for i, (a, b) in enumerate(zip(old, other, strict=True)) if a != b]
                assert len(old) >= 4
                assert differing == [differing[0], differing[0] + 1]
                assert differing[0] >= 1
                changed[old] += 1
    prose = "Suppose that equals people walk under very cloudy weather otherwise nobody walks anywhere"
    assert set(changed) == set(WORD.findall(prose))
    assert sum(changed.values()) == 60  # a tenth of 13 words


@given(st.text(max_size=200), st.sampled_from(PROSE))
@settings(max_examples=300, deadline=None)
def test_perturbations_accept_any_text(text: str, name: str) -> None:
    sure = replace(words("Tom has 3 cats. Mary has 4 dogs. How many animals?"), id="sure")
    odd, _ = perturbed(only(replace(words(text), id="odd"), sure), [name]).tests[f"test-{name}"]
    assert odd.answer == "1"
    if name in ("reordered", "typos"):
        assert sorted(odd.question) == sorted(text)
    if name == "distractor":
        assert len(odd.question) > len(text)


def test_prices_are_not_mathematics() -> None:
    assert MATHS.findall("He pays $20 and then $30 or ($5) for $x$-rays") == [""]
    assert MATHS.search("He pays $20 and then $30 for $x + \\$3$ more")[0] == "$x + \\$3$"  # type: ignore[index]


@pytest.mark.skipif(not DATA.exists(), reason=f"needs the data sets in {DATA.relative_to(ROOT.parent)}")
@pytest.mark.parametrize(("file", "key"), [("gsm8k", "question"), ("math500", "problem")])
def test_real_data_sets_change_without_losing_their_numbers(file: str, key: str) -> None:
    lines = Path(DATA / file / "test.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    problems = [Problem(str(index), json.loads(line)[key], "7") for index, line in enumerate(lines)]
    splits = perturbed(Splits([], [], {"test": problems}), PROSE)
    least = {"distractor": 300, "typos": 295, "names": 120, "reordered": 50} if file == "gsm8k" else {}
    for name in PROSE:
        changed = splits.tests[f"test-{name}"]
        assert count_perturbed(changed) >= least.get(name, 1)
        for problem, before in zip(changed, problems, strict=True):
            new, old = (Counter(re.findall(r"\d+", one.question)) for one in (problem, before))
            assert (new - old).total() == (name == "distractor")
            assert not old - new


# Mistakes


@pytest.mark.parametrize(
    "task", ["gsm_symbolic", "family_relationships", "gcd", "leg_counting", "basic_arithmetic", "lcm"]
)
def test_other_tasks_keep_their_golds_and_all_that_their_verifiers_read(task: str) -> None:
    sizes = {"train_size": 2, "validation_size": 1, "test_size": 5}
    gym = ReasoningGym(name=task, task=task, **sizes, perturb=VALID[task])
    assert run_mistakes(gym) == []
    splits, judge = gym.load(), build_verifier(task, {})
    for name in VALID[task]:
        for problem, before in zip(splits.tests[f"test-{name}"], splits.tests["test"], strict=True):
            assert (problem.id, problem.answer) == (before.id, before.answer)
            assert {**before.metadata, "perturbed": problem.metadata["perturbed"]} == problem.metadata
            assert judge(before.answer, {"answer": problem.answer, "metadata": problem.metadata}) == 1.0


@pytest.mark.parametrize(
    ("task", "names", "text"),
    [
        ("chain_sum", ["typo"], "'typo' is not a perturbation; valid: renumbered, reordered, distractor, names, typos"),
        ("chain_sum", ["names"], "names is not valid for chain_sum"),
        ("chain_sum", ["typos", "typos"], "benchmark.perturb=[typos,typos] has a perturbation twice"),
        (
            "gcd",
            ["renumbered"],
            "gold answer of gcd (only of chain_sum, which stores its expression); valid: distr",
        ),
        ("gcd", ["reordered"], "reordered is not valid for gcd"),
        ("word_sorting", ["typos"], "typos is not valid for word_sorting"),
        ("countdown", ["distractor"], "its gold or verifier depends on it; valid: none"),
    ],
)
def test_perturbations_that_are_invalid_for_a_task_are_named(task: str, names: list[str], text: str) -> None:
    gym = ReasoningGym(name=task, task=task, train_size=1, validation_size=1, test_size=1, perturb=names)
    errors = run_mistakes(gym)
    assert any(text in error for error in errors), errors
    with pytest.raises(InputError):
        gym.load()


def test_a_data_set_cannot_be_renumbered_and_a_name_is_not_given_twice() -> None:
    with pytest.raises(InputError, match=r"gold answer of a data set .*; valid: reordered, distractor, names, typos"):
        perturbed(only(words(SHOP)), ["renumbered"])
    with pytest.raises(InputError, match="the test split test-typos exists already"):
        perturbed(Splits([], [], {"test": [words(SHOP)], "test-typos": [words(SHOP)]}), ["typos"])


def test_every_perturbation_is_valid_somewhere() -> None:
    assert set(PERTURBATIONS) == {name for valid in VALID.values() for name in valid}


# What the experiment makes of evaluations


def record(
    folder: Path, split: str, rounds: int, verdicts: list[list[float]], asked: list[str], temperature: float = 1.0
) -> Path:
    """Write an evaluation, as src.evaluate does; returns its summary's path."""
    rate = accuracy(verdicts)
    summary = {
        "accuracy": rate.estimate,
        "low": rate.low,
        "high": rate.high,
        "samples": len(verdicts[0]),
        "benchmark": "sums",
        "split": split,
        "rounds": rounds,
        "key": f"{split} {rounds} {temperature}",
        "decided_by": {"problems": split, "temperature": temperature},
    }
    records = [
        {"id": f"p{index}", "question": question, "correct": verdict}
        for index, (question, row) in enumerate(zip(asked, verdicts, strict=True))
        for verdict in row
    ]
    return Results(folder).write(Evaluated(summary, verdicts), records)


PLAIN, ANEW = [[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]


def test_a_perturbation_is_compared_on_the_problems_that_it_changed(tmp_path: Path) -> None:
    record(tmp_path, "easy", 3, PLAIN, ["a", "b", "c", "d"])
    record(tmp_path, "easy-typos", 3, ANEW, ["A", "B", "C", "d"])
    (row,) = plot.effects([tmp_path])
    assert (row.split, row.rounds, row.name, row.changed, row.problems) == ("sums-easy", 3, "typos", 3, 4)
    assert row.plain == accuracy(PLAIN[:3])
    assert row.perturbed == accuracy(ANEW[:3])
    assert row.difference == paired_difference(PLAIN[:3], ANEW[:3])
    assert row.difference.estimate == pytest.approx((-0.5 - 0.5 - 0.5) / 3)
    # all three differences are -0.5: other problems may differ with a chance of at most 1 - 0.05^(1/3) = 0.632
    _, cells = rows(plot.table([row]))
    assert cells[:4] == ["sums-easy", "3", "typos", "3 of 4"]
    assert cells[4].startswith("83.3 [")
    assert cells[6] == "-50.0 [-81.6, +44.7]"


def test_runs_are_averaged_with_intervals_for_runs_and_for_problems(tmp_path: Path) -> None:
    for seed, anew in enumerate((ANEW, PLAIN)):
        record(tmp_path / str(seed), "easy", 1, PLAIN, ["a", "b", "c", "d"])
        record(tmp_path / str(seed), "easy-names", 1, anew, ["A", "B", "C", "D"])
    (row,) = plot.effects([tmp_path / "0", tmp_path / "1"])
    over_runs = 12.706204736 * 0.0625  # t at one degree of freedom, times the standard error of -0.125 and 0
    over_problems = (3.182446305 * 0.75 / 2 + (1 - 0.05 ** (1 / 4))) / 2  # of -0.5, -0.5, -0.5, 1 and of four times 0
    half = math.hypot(over_runs, over_problems)
    assert half > 1 + 0.0625  # so that the lowest and the highest possible value cut it
    expected = (-0.0625, -1.0, 1.0)
    assert (row.difference.estimate, row.difference.low, row.difference.high) == pytest.approx(expected)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no evaluation"):
        plot.effects([tmp_path])
    record(tmp_path, "easy-typos", 3, ANEW, ["a", "b", "c", "d"])
    with pytest.raises(InputError, match="sums-easy-typos_rounds3 has no sums-easy_rounds3 beside it"):
        plot.effects([tmp_path])
    record(tmp_path, "easy", 3, PLAIN[:2], ["a", "b"])
    with pytest.raises(InputError, match="evaluated on different problems"):
        plot.effects([tmp_path])


def test_lengths_are_drawn_in_their_order_for_each_number_of_rounds(tmp_path: Path) -> None:
    rates = {(1, 3): 4, (1, 11): 1, (1, 5): 2, (3, 5): 3, (3, 3): 4}
    for (rounds, terms), right in rates.items():
        record(tmp_path, f"terms-{terms}", rounds, [[float(index < right)] for index in range(4)], list("abcd"))
    found = plot.by_length([tmp_path])
    assert {rounds: list(points) for rounds, points in found.items()} == {1: [3, 5, 11], 3: [3, 5]}
    for (rounds, terms), right in rates.items():
        assert found[rounds][terms] == wilson(right / 4, 4)
    axes = plot.curves(found).axes[0]
    lines = [container.lines[0] for container in axes.containers]
    assert [list(line.get_ydata()) for line in lines] == [[1.0, 0.5, 0.25], [1.0, 0.75]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1 round", "3 rounds"]


def test_the_command_writes_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, "terms-3", 1, PLAIN, ["a", "b", "c", "d"])
    record(tmp_path, "terms-3-typos", 1, ANEW, ["A", "B", "C", "D"])
    monkeypatch.setattr("sys.argv", ["plot", str(tmp_path), "--out", str(tmp_path / "out")])
    plot.main()
    assert (tmp_path / "out" / "lengths.png").read_bytes().startswith(b"\x89PNG")
    _, cells = rows((tmp_path / "out" / "perturbations.md").read_text())
    assert cells[:4] == ["sums-terms-3", "1", "typos", "4 of 4"]


def test_a_perturbed_split_is_paired_with_what_was_evaluated_in_the_same_way(tmp_path: Path) -> None:
    record(tmp_path, "easy", 3, PLAIN, ["a", "b", "c", "d"], temperature=0.5)
    record(tmp_path, "easy-typos", 3, ANEW, ["A", "B", "C", "d"])
    with pytest.raises(InputError, match="beside it that was evaluated with the same settings"):
        plot.effects([tmp_path])
    other = record(tmp_path, "easy", 3, ANEW, ["a", "b", "c", "d"])
    assert other.name != "sums-easy_rounds3.json"  # the first evaluation's files stay as they are
    (row,) = plot.effects([tmp_path])
    assert row.plain == accuracy(ANEW[:3])


def test_two_evaluations_of_one_split_are_refused(tmp_path: Path) -> None:
    record(tmp_path, "easy", 3, PLAIN, ["a", "b", "c", "d"])
    for temperature in (0.5, 1.0):
        record(tmp_path, "easy-typos", 3, ANEW, ["A", "B", "C", "d"], temperature)
        record(tmp_path, "terms-3", 1, PLAIN, ["a", "b", "c", "d"], temperature)
    for read in (plot.effects, plot.by_length):
        with pytest.raises(InputError, match="are evaluations of one split with different settings; move one"):
            read([tmp_path])


def test_evaluations_of_before_their_splits_were_recorded_are_read_too(tmp_path: Path) -> None:
    record(tmp_path / "new", "terms-3", 1, PLAIN, ["a", "b", "c", "d"])
    record(tmp_path / "new", "terms-3-typos", 1, ANEW, ["A", "B", "C", "d"])
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    for file in (tmp_path / "old").glob("*.json"):
        summary = json.loads(file.read_text())
        later = ("benchmark", "split", "rounds", "key", "decided_by")
        file.write_text(json.dumps({name: value for name, value in summary.items() if name not in later}))
    for read in (plot.effects, plot.by_length):
        assert read([tmp_path / "old"]) == read([tmp_path / "new"])
    assert plot.effects([tmp_path / "old"])[0].changed == 3
