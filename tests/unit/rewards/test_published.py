"""Verdicts and rewards of MOTIF's released code, and evaluation with two verifiers."""

from __future__ import annotations

import itertools
import json
import re
import time
from pathlib import Path

import pytest

from src.benchmarks.dataset import Dataset
from src.config import ROOT, compose, options
from src.evaluation.loop import evaluate
from src.evaluation.results import Evaluated, Results, disagreements
from src.evaluation.statistics import wilson
from src.rewards.base import Reward
from src.rewards.published import Accuracy, Soft, Strict, Tags
from src.run import load_judges
from src.types import InputError, Problem, Sampling, Status, Turn
from src.utils.files import read_jsonl
from src.verifiers.math import Math
from src.verifiers.own import Own
from src.verifiers.published import Published
from src.verifiers.tags import stated_answer

DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the benchmarks are not in {DATA}")

GOLD = Problem("p", "?", "18")
COMMA = Problem("p", "?", "1,080")
AIME = Problem("p", "?", "025", {"source": "aime2024"})


@pytest.mark.parametrize(
    ("problem", "text", "published", "math"),
    [
        (GOLD, "\\boxed{18}", 1, 1),
        (GOLD, "so \\boxed{18}.", 1, 1),
        (GOLD, "\\boxed{ 18 }", 0, 1),  # oddity 4
        (GOLD, "\\boxed{18.0}", 0, 1),
        (GOLD, "\\boxed{\\$18}", 0, 1),
        (GOLD, "\\boxed{18}, no: \\boxed{19}", 1, 0),
        (GOLD, "\\boxed{19}<answer>\\boxed{18}</answer>", 1, 1),
        (GOLD, "18", 0, 0),
        (GOLD, "\\boxed{180}", 0, 0),
        (COMMA, "\\boxed{1,080}", 1, 1),
        (COMMA, "\\boxed{1080}", 0, 1),
        (Problem("p", "?", "\\frac{1}{2}"), "\\boxed{\\dfrac{1}{2}}", 0, 1),
        (Problem("p", "?", "\\frac{1}{2}"), "\\boxed{\\frac{1}{2}}", 1, 1),
        (AIME, "It is 025", 1, 0),  # oddity 7
        (AIME, "among 10250 of them", 1, 0),
        (AIME, "\\boxed{25}", 0, 1),
        (AIME, "\\boxed{025}", 1, 1),
        (GOLD, "", 0, 0),
    ],
)
def test_verdicts(problem: Problem, text: str, published: float, math: float) -> None:
    def own(problem: Problem, text: str) -> float:
        return 0.25

    assert Published().scorer(own)(problem, text) == published
    assert Math().scorer(own)(problem, text) == math
    assert Own().scorer(own)(problem, text) == 0.25


def test_aime_can_require_the_box() -> None:
    assert Published(anywhere=[]).score(AIME, "It is 025") == 0
    assert Published(anywhere=[]).score(AIME, "\\boxed{025}") == 1


@needs_data
def test_golds_that_differ_from_plain_numbers() -> None:
    overrides = ["benchmark=paper", f"benchmark.source={DATA}"]
    benchmark = compose("train", overrides).settings.benchmark
    assert isinstance(benchmark, Dataset)
    splits, published = benchmark.load(), Published()
    train = [*splits.train, *splits.validation]
    for problem in [*train, *splits.tests["math500"], *splits.tests["aime2024"]]:
        assert published.score(problem, f"\\boxed{{{problem.answer}}}") == 1
    plain = [published.score(problem, f"\\boxed{{{problem.answer.replace(',', '')}}}") for problem in train]
    assert (len(plain), plain.count(0)) == (7473, 79)
    stripped = [(problem, f"\\boxed{{{int(problem.answer)}}}") for problem in splits.tests["aime2024"]]
    assert sum(published.score(*one) == 0 for one in stripped) == 7
    assert [benchmark.score(*one) for one in stripped] == [1.0] * 30
    assert sum(re.fullmatch(r"-?\d+", problem.answer) is not None for problem in splits.tests["math500"]) == 311


def turn(text: str, round: int = 3, final: bool = True) -> Turn:
    return Turn((0,) * round, (1,), Sampling(9), text=text, status=Status.DONE, final=final)


def judge(problem: Problem, text: str) -> float:
    """A verifier that knows 18.0 for 18."""
    answer = stated_answer(text)
    return float(answer is not None and answer.removesuffix(".0") == problem.answer)


INSIDE = "<reasoning>\nx\n</reasoning>\n<answer>\n\\boxed{18}\n</answer>\n"


@pytest.mark.parametrize(
    ("text", "published", "vanilla", "corrected", "vanilla_corrected"),
    [
        (INSIDE, 2, 2, 2, 2),
        ("<reasoning>\\boxed{18}</reasoning><answer>eighteen</answer>", 1, 2, 0, 0),
        ("<reasoning>\\boxed{18}</reasoning><answer>\\boxed{19}</answer>", 1, 2, 0, 0),
        ("<reasoning>\\boxed{19}</reasoning><answer>\\boxed{18}</answer>", 2, 2, 2, 2),
        ("<answer>\\boxed{18}", 2, 2, 2, 2),  # an unclosed tag: what follows it
        ("the answer is \\boxed{18}", 2, 2, 1, 2),  # no tag: all of it
        ("<answer>\\boxed{18.0}</answer>", 0, 0, 2, 2),
        ("<answer>\\boxed{18}</answer><answer>19</answer>", 1, 2, 0, 0),
        ("<answer>18</answer>", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_accuracy(text: str, published: float, vanilla: float, corrected: float, vanilla_corrected: float) -> None:
    assert Accuracy().score(GOLD, turn(text), judge) == published
    assert Accuracy().score(GOLD, turn(text, round=1), judge) == vanilla
    assert Accuracy(corrected=True).score(GOLD, turn(text), judge) == corrected
    assert Accuracy(corrected=True).score(GOLD, turn(text, round=1), judge) == vanilla_corrected
    ended_early = turn(text, round=1, final=False)  # of three rounds: not vanilla
    assert Accuracy().score(GOLD, ended_early, judge) == published


LINES = "<reasoning>\none\ntwo\n</reasoning>\n<answer>\n\\boxed{18}\nindeed\n</answer>\n"
ONE_LINE = "<reasoning>x</reasoning><answer>\\boxed{18}</answer>"


@pytest.mark.parametrize(
    ("text", "strict", "soft", "strict_corrected", "soft_corrected"),
    [
        (INSIDE, 0.5, 0, 0.5, 0.5),
        (INSIDE.rstrip("\n"), 0, 0, 0.5, 0.5),
        (INSIDE + "\n", 0.5, 0, 0.5, 0.5),  # $ also matches before a last newline
        (LINES, 0, 0, 0.5, 0.5),  # oddity 5: an ordinary response
        (LINES.rstrip("\n"), 0, 0, 0.5, 0.5),
        (ONE_LINE, 0, 0.5, 0, 0.5),
        (ONE_LINE.replace("><", ">\n \n<"), 0, 0.5, 0, 0.5),
        (ONE_LINE + " and more", 0, 0.5, 0, 0.5),
        ("Well. " + ONE_LINE, 0, 0, 0, 0),
        (" " + INSIDE, 0, 0, 0, 0),
        (INSIDE + "more", 0, 0, 0, 0.5),
        ("<answer>1</answer><reasoning>x</reasoning>", 0, 0, 0, 0),
        ("<reasoning>x</reasoning>", 0, 0, 0, 0),
        ("<reasoning>x</reasoning> so <answer>1</answer>", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_strict_and_soft_format(
    text: str, strict: float, soft: float, strict_corrected: float, soft_corrected: float
) -> None:
    found = [
        term.score(GOLD, turn(text), judge) for term in (Strict(), Soft(), Strict(corrected=True), Soft(corrected=True))
    ]
    assert found == [strict, soft, strict_corrected, soft_corrected]


def test_strict_and_soft_exclude_each_other() -> None:
    pieces = ["<reasoning>", "</reasoning>", "<answer>", "</answer>", "x"]
    for breaks in itertools.product(["", "\n"], repeat=8):
        order = [pieces[0], pieces[4], pieces[1], pieces[2], pieces[4], pieces[3]]
        text = "".join(piece + end for piece, end in zip(order, breaks, strict=False)) + breaks[6] + breaks[7]
        assert Strict().score(GOLD, turn(text), judge) * Soft().score(GOLD, turn(text), judge) == 0


def well_formed(length: int) -> str:
    """A well-formed response of that many characters that ends with its closing tag."""
    frame = "<reasoning>\n{}\n</reasoning>\n<answer>\n\\boxed{{18}}\n</answer>"
    return frame.format("x" * (length - len(frame.format(""))))


@pytest.mark.parametrize(
    ("text", "published", "corrected"),
    [
        (well_formed(1377), -0.876, 0.5),  # oddity 6
        (well_formed(1377) + "\n", 0.5, 0.5),
        (well_formed(100), 0.401, 0.5),
        (well_formed(501), 0.0, 0.5),
        (well_formed(100) + "\n\n", 0.498, 0.499),
        (well_formed(100) + "\nmore", 0.492, 0.496),  # four characters, counted twice
        (well_formed(100) + "more", 0.5 - 0.104 - 0.003, 0.496),
        (ONE_LINE, 0.0, 0.0),
        ("", 0.0, 0.0),
        ("<reasoning>\n", 0.125, 0.125),
        ("<reasoning>\n<reasoning>\n", 0.0, 0.0),
        ("<reasoning>\nx\n</reasoning>\n", 0.25, 0.25),
        ("x\n<answer>\ny", 0.125 - 0.012, 0.125),
        ("x\n</answer>", 0.125 + 0.001, 0.125),
        ("x\n</answer>\n", 0.125, 0.125),
        (INSIDE + INSIDE, 0.0, 0.0),
    ],
)
def test_tags(text: str, published: float, corrected: float) -> None:
    assert Tags().score(GOLD, turn(text), judge) == pytest.approx(published)
    assert Tags(corrected=True).score(GOLD, turn(text), judge) == pytest.approx(corrected)


def test_the_tag_oddity_weighs_as_much_as_accuracy() -> None:
    assert len(well_formed(1377)) == 1377
    reward = compose("train", ["reward=published"]).settings.reward
    assert isinstance(reward, Reward)
    long, short = (
        sum(term.weight * term.score(GOLD, turn(text), judge) for term in reward.terms.values())
        for text in (well_formed(2100), well_formed(100).replace("18", "19"))
    )
    assert long - 2.0 < -1.5  # a right answer in 2,100 characters
    assert long < short  # is worth less than a wrong one in 100
    assert list(reward.terms) == ["accuracy", "strict", "soft", "tags"]
    right = compose("train", ["reward=published-corrected"]).settings.reward
    assert all(term.corrected for term in right.terms.values())


@pytest.mark.parametrize(
    "text", ["</reasoning><answer>" * 1000, "<reasoning>" * 2000, "\n</answer>\n" * 2000, "\n" * 20_000]
)
def test_terms_never_raise_or_hang(text: str) -> None:
    begin = time.process_time()
    for term, start in itertools.product([Accuracy, Strict, Soft, Tags], ["", "<reasoning>\n", "<reasoning>"]):
        for corrected in (False, True):
            assert -100 < term(corrected=corrected).score(GOLD, turn(start + text), judge) <= 2
    assert time.process_time() - begin < 5


def test_the_papers_intervals_overlap() -> None:
    before, after = wilson(0.448, 500), wilson(0.486, 500)
    assert [round(100 * value, 1) for value in (before.low, before.high)] == [40.5, 49.2]
    assert [round(100 * value, 1) for value in (after.low, after.high)] == [44.2, 53.0]
    assert not before.disjoint(after)


RECORDS = [
    {"id": "a", "sample": 0, "answer": "18.0", "gold": "18", "correct": 1.0, "also": {"published": 0.0, "math": 1.0}},
    {"id": "a", "sample": 1, "answer": "18", "gold": "18", "correct": 1.0, "also": {"published": 1.0, "math": 1.0}},
]


def test_disagreements_are_listed_with_their_verdicts() -> None:
    assert disagreements("own", RECORDS) == [
        {
            "id": "a",
            "sample": 0,
            "answer": "18.0",
            "gold": "18",
            "verdicts": {"own": 1.0, "published": 0.0, "math": 1.0},
        }
    ]


def test_verdicts_of_two_verifiers_are_recorded(tmp_path: Path) -> None:
    from src.models.loading import load_policy

    overrides = ["rounds=1", "evaluation.also=[published,math]", "benchmark.test_size=6"]
    settings = compose("evaluate", overrides).settings
    benchmark = settings.benchmark
    problems = benchmark.load().tests["easy"]
    policy = load_policy(settings.model, 0)
    engine = settings.engine.build(policy, settings.model)
    strategy = settings.evaluation.chains(settings.rounds, "easy", 1)
    scorers = {judge.name: judge.scorer(benchmark.score) for judge in load_judges(settings, problems)}
    assert list(scorers) == ["own", "published", "math"]
    scorers["published"] = lambda problem, text: 1 - benchmark.score(problem, text)  # so that they differ
    sampled, records = evaluate(engine, strategy, problems, policy.codec, scorers, (0,))
    about = {"benchmark": "both", "split": "easy", "key": "k", "step": 0}
    result = Evaluated({**sampled.summary, **about}, sampled.correct)
    results = Results(tmp_path)
    path = results.write(result, records)
    summary = json.loads(path.read_text())
    assert summary["verifier"] == "own"
    assert summary["also"]["published"]["accuracy"] == pytest.approx(1 - summary["accuracy"])
    assert summary["also"]["published"]["disagreements"] == 24
    assert {name: summary["also"]["math"][name] for name in ("accuracy", "low", "high")} == {
        name: summary[name] for name in ("accuracy", "low", "high")
    }
    assert summary["also"]["math"]["disagreements"] == 0
    listed = list(read_jsonl(tmp_path / f"{path.stem}_disagreements.jsonl"))
    assert [(one["id"], one["sample"]) for one in listed] == [(one["id"], one["sample"]) for one in records]
    assert results.find("k") == Evaluated(summary, result.correct)


VERIFIERS = ", ".join(options("verifier"))


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["evaluation.also=[publishd]"], f"evaluation.also=publishd: no such verifier; valid: {VERIFIERS}"),
        (["evaluation.also=[own]"], "evaluation.also=own: the verifier own is already in use"),
        (["evaluation.also=[math,math]"], "evaluation.also=math: the verifier math is already in use"),
        (["evaluation.also=[os.path]"], "evaluation.also[0]._target_: os.path is not a subclass of"),
        (["evaluation.also=[src.verifiers.base.Verifier]"], "src.verifiers.base.Verifier is abstract"),
        (["evaluation.also=[src.rewards.outcome.Outcome]"], "must be a list of a section for Verifier"),
        (["verifier=math", "verifier.seconds=0"], "verifier.seconds=0 must be above 0"),
        (["verifier=math", "verifier.memory_mb=1"], "verifier.memory_mb=1 must be 64 or more"),
        (["verifier=lenient"], f"verifier has no option 'lenient'; valid: {VERIFIERS}"),
    ],
)
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_mistakes_are_named(name: str, overrides: list[str], text: str) -> None:
    with pytest.raises(InputError) as caught:
        compose(name, overrides)
    assert any(text in problem for problem in caught.value.problems), caught.value.problems


def test_a_custom_verifier_can_be_added() -> None:
    settings = compose("evaluate", ["evaluation.also=[src.verifiers.published.Published]"]).settings
    assert load_judges(settings, [GOLD]) == [Own(), Published()]


def test_problems_without_a_gold_need_their_own_verifier() -> None:
    math = compose("evaluate", ["verifier=math"]).settings
    blank = Problem("n", "?", "")
    with pytest.raises(InputError, match="n of benchmark=chain-sum has no gold answer, which verifier=math needs"):
        load_judges(math, [GOLD, blank])
    assert load_judges(compose("evaluate").settings, [blank]) == [Own()]
