"""Controls of aggregation: which drafts aggregations read, what is left out, and which settings are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from src.config import compose
from src.engines.vllm import VLLM
from src.evaluation.controls import Control, Sources
from src.evaluation.loop import evaluate
from src.evaluation.sampling import answer
from src.rounds.aggregation import Aggregation
from src.rounds.carry.answer import Answer
from src.rounds.growing import grow
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.rounds.search.aggregate import Aggregate
from src.types import InputError, Problem, Turn
from src.verifiers.tags import stated_answer
from tests.helpers.scripted import Letters, Scripted
from tests.helpers.sections import run_mistakes
from tests.helpers.tiny_models import save_tiny

PROBLEMS = [Problem("a", "A", "1"), Problem("b", "B", "1"), Problem("c", "C", "1")]
SAMPLES, SIZE = 3, 2


def strategy() -> Aggregation:
    prompts = Prompts(first="{question}", later="{question}|{progress}")
    budgets = {"context": 400, "first_tokens": 60, "later_tokens": 60, "progress_tokens": 60}
    whole: Any = {"prompts": prompts, "carry": Answer(), **budgets}
    return Aggregation(**whole, responses=SIZE, sets=1, sources=SIZE).independent(2, SAMPLES, 1.0, 1.0)


def right(problem: Problem, text: str) -> float:
    return float((stated_answer(text) or "").startswith(problem.answer))


def box(text: str) -> str:
    return f"<answer>\\boxed{{{text}}}</answer>"


def script(turn: Turn) -> str:
    """All drafts of A are right, those of B half, those of C none. An aggregation copies the first draft it reads."""
    question, _, quoted = Letters().decode(turn.prompt).partition("|")
    if quoted:
        return f"so <answer>{quoted.splitlines()[0]}</answer>"
    good = {"A": True, "B": turn.path == (0,), "C": False}[question]
    return box(f"{int(good)}.{turn.stream % 1000}")


class Watched(Scripted):
    """Notes the rounds of the turns that are written."""

    def __init__(self, name: str = "") -> None:
        self.rounds: Counter[int] = Counter()
        super().__init__(lambda turn: self.note(turn) + script(turn))
        self.name = name

    def note(self, turn: Turn) -> str:
        self.rounds[turn.round] += 1
        return self.name


def sources(kind: Any, writer: Any = None, **settings: Any) -> Sources:
    return Sources(Control(sources=kind, **settings), writer or Watched())


def grown(one: Sources, engine: Any = None) -> tuple[Any, Any]:
    keys = [("key", sample) for sample in range(SAMPLES)]

    def verdicts(asked: Sequence[tuple[Problem, Turn]]) -> list[float]:
        return [right(problem, turn.said) for problem, turn in asked]

    return one.grow(engine or Watched(), strategy(), PROBLEMS, Letters(), keys, verdicts)


def test_given_drafts_are_not_written_again() -> None:
    whole = grow(Watched(), strategy(), PROBLEMS, Letters(), ("key",))
    engine = Watched()
    given = [rollout.level(1) for rollout in whole]
    assert grow(engine, strategy(), PROBLEMS, Letters(), ("key",), given=given) == whole
    assert engine.rounds == {2: len(PROBLEMS)}
    assert grow(engine, strategy(), [], Letters(), ("key",), given=[]) == []


def test_drafts_as_they_were_written_change_nothing() -> None:
    found, _ = grown(sources("as_written"))
    plain = answer(Watched(), strategy(), PROBLEMS, Letters(), {"m": right}, ("key",))
    same = answer(Watched(), strategy(), PROBLEMS, Letters(), {"m": right}, ("key",), sources=sources("as_written"))
    assert same == plain
    assert [[len(turns) for turns in own] for own in found] == [[SIZE] * SAMPLES] * len(PROBLEMS)


def test_shuffled_drafts_are_the_same_in_another_order() -> None:
    drafts, shuffled = grown(sources("shuffled"))
    _, plain = grown(sources("as_written"))
    moved = 0
    for own, ones, others in zip(drafts, shuffled, plain, strict=True):
        for written, one, other in zip(own, ones, others, strict=True):
            assert Counter(turn.text for turn in one.level(1)) == Counter(turn.text for turn in written)
            assert [(turn.path, turn.stream) for turn in one.turns] == [
                (turn.path, turn.stream) for turn in other.turns
            ]
            assert one.turns[-1].quoted == other.turns[-1].quoted
            moved += one.turns[-1].carried != other.turns[-1].carried
    assert 0 < moved < len(PROBLEMS) * SAMPLES
    assert grown(sources("shuffled")) == (drafts, shuffled)


@pytest.mark.parametrize(("kind", "covered"), [("oracle_right", "AB"), ("oracle_wrong", "BC")])
def test_an_oracle_gives_drafts_of_one_kind_of_the_same_problem(kind: str, covered: str) -> None:
    drafts, found = grown(sources(kind))
    assert [problem.question for problem, own in zip(PROBLEMS, found, strict=True) if own is not None] == list(covered)
    for problem, written, own in zip(PROBLEMS, drafts, found, strict=True):
        pool = {turn.text for turns in written for turn in turns}
        read = [[turn.text for turn in rollout.level(1)] for rollout in own or []]
        assert all(len(set(texts)) == SIZE and set(texts) <= pool for texts in read)
        assert all(right(problem, text) == (kind == "oracle_right") for texts in read for text in texts)
    (half,) = [own for problem, own in zip(PROBLEMS, found, strict=True) if problem.question == "B"]
    assert len({frozenset(turn.text for turn in rollout.level(1)) for rollout in half}) > 1  # sets differ by sample


def test_another_writers_drafts_are_read() -> None:
    writer, engine = Watched("other "), Watched()
    _, found = grown(sources("as_written", writer), engine)
    assert (writer.rounds, engine.rounds) == ({1: 18}, {2: 9})
    texts = [turn.text for own in found for rollout in own for turn in rollout.level(1)]
    assert all(text.startswith("other ") for text in texts)


def population(n: int, candidates: int = 4) -> MultiRound:
    """A search with sets of two candidates."""
    prompts = Prompts(first="{question}", later="{question}|{progress}", final="{question}|{progress}")
    budgets = {"context": 400, "first_tokens": 60, "later_tokens": 60, "progress_tokens": 60}
    search = Aggregate(candidates=candidates, sources=SIZE)
    whole: Any = {"prompts": prompts, "carry": Answer(), "search": search, **budgets}
    return MultiRound(**whole, n=n).independent(n, SAMPLES, 1.0, 1.0)


def searched(kind: Any, n: int, writer: Any = None) -> tuple[Counter[int], list[Any]]:
    """The turns that the evaluated policy wrote by round, and the answers."""
    engine, chosen = Watched(), sources(kind, writer) if kind is not None else None
    return engine.rounds, answer(engine, population(n), PROBLEMS, Letters(), {"m": right}, ("key",), sources=chosen)


@pytest.mark.parametrize("n", [2, 3])
def test_controls_change_the_first_candidates_of_a_population(n: int) -> None:
    plain = searched(None, n)[1]
    assert searched("as_written", n)[1] == plain
    written, moved = searched("shuffled", n)
    assert written == dict.fromkeys(range(2, n + 1), 4 * SAMPLES * len(PROBLEMS))

    def texts(one: Any, sample: int) -> Counter[str]:
        size = len(one.turns) // SAMPLES
        return Counter(turn.text for turn in one.turns[sample * size : (sample + 1) * size] if turn.round == 1)

    for one, other in zip(plain, moved, strict=True):
        assert all(texts(one, sample) == texts(other, sample) for sample in range(SAMPLES))
    assert [[t.carried for t in one.turns] for one in plain] != [[t.carried for t in one.turns] for one in moved]

    for kind, left in (("oracle_right", "A"), ("oracle_wrong", "BC")):  # three right ones of B are too few
        found = searched(kind, n)[1]
        assert [problem.question for problem, one in zip(PROBLEMS, found, strict=True) if one] == list(left)
        for problem, one in zip(PROBLEMS, found, strict=True):
            drafts = [turn.said for turn in one.turns if turn.round == 1] if one else []
            assert all(right(problem, text) == (kind == "oracle_right") for text in drafts)

    writer = Watched("other ")
    written, found = searched("as_written", n, writer)
    assert (writer.rounds, 1 in written) == ({1: 4 * SAMPLES * len(PROBLEMS)}, False)
    assert all(turn.text.startswith("other ") for one in found for turn in one.turns if turn.round == 1)


def evaluated(kind: Any = None, problems: Sequence[Problem] = PROBLEMS, **options: Any) -> tuple[Any, Any]:
    chosen = sources(kind) if kind is not None else None
    place = Watched(), strategy(), problems, Letters(), {"m": right}, ("key",)
    return evaluate(*place, sources=chosen, **options)


@pytest.mark.parametrize("chunk", [1, 256])
def test_problems_without_enough_drafts_are_left_out_and_counted(chunk: int) -> None:
    found, records = evaluated("oracle_right", chunk=chunk)
    assert found.correct == [[1.0] * SAMPLES] * 2
    assert {record["id"] for record in records} == {"a", "b"}
    assert found.summary["control"] == {"sources": "oracle_right", "drafts": None, "problems": 3, "covered": 2}
    assert found.summary["problems"] == 2
    assert "per_problem" not in found.summary  # would be compared with those of other problems
    with pytest.raises(InputError, match=r"none of 1 problems of a test split has 2 such drafts"):
        evaluated("oracle_right", PROBLEMS[2:])


def test_the_summary_has_the_measures() -> None:
    plain, _ = evaluated()
    assert "control" not in plain.summary
    graph = plain.summary["graph"]
    draft, whole = len(box("1.123")), plain.summary["tokens_per_answer"]
    assert graph["total_tokens"] == pytest.approx(whole)
    assert graph["sequential_tokens"] == pytest.approx(whole - draft, abs=2)  # without one of two parallel drafts
    assert graph["aggregations"] == 9
    numbers = graph["by_right_sources"]
    assert [numbers[name]["total"] for name in "012"] == [3, 3, 3]
    assert [numbers[name]["estimate"] for name in "02"] == [0.0, 1.0]
    places = graph["by_position"]
    assert (places["1"] or {"estimate": 1.0})["estimate"] == 1.0  # an aggregation copies the first
    assert (places["2"] or {"estimate": 0.0})["estimate"] == 0.0
    assert 0 < graph["draft_vote"]["accuracy"] < 1
    assert plain.metrics["right_if_all_wrong"] == 0.0
    assert plain.metrics["tokens_per_answer"] == whole


def test_chains_have_no_graph() -> None:
    alone = strategy().independent(1, 2, 1.0, 1.0)
    found, _ = evaluate(Watched(), alone, PROBLEMS, Letters(), {"m": right}, ("key",))
    assert "graph" not in found.summary
    assert set(found.metrics) == {"accuracy", "low", "high", "tokens_per_answer"}


def test_verdicts_are_asked_for_once() -> None:
    asked: Counter[tuple[str, str]] = Counter()

    def counted(problem: Problem, text: str) -> float:
        asked[problem.id, text] += 1
        return right(problem, text)

    place = Watched(), strategy(), PROBLEMS[:1], Letters(), {"m": counted}, ("key",)
    evaluate(*place, sources=sources("oracle_right"))
    drafts = [count for (_, text), count in asked.items() if not text.startswith("so ")]
    assert drafts == [1] * SAMPLES * SIZE


# settings

AGGREGATION = ["rounds=aggregation", "evaluation.rounds=[2]"]


def test_a_control_without_several_sources_is_refused_with_all_other_mistakes() -> None:
    with pytest.raises(InputError) as caught:
        compose("evaluate", ["control.sources=shuffled", "evaluation.samples=0", "control.drafts=nowhere"])
    text = "\n".join(caught.value.problems)
    assert "control.sources=shuffled control.drafts=nowhere changes the drafts that an aggregation reads" in text
    assert "evaluation.rounds=[3] no prompt quotes several drafts" in text
    assert "evaluation.samples=0 must be" in text
    assert "control.drafts: nowhere: not a run directory" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rounds=aggregation", "evaluation.rounds=[1,2]"], r"evaluation.rounds=\[1\] no prompt quotes several"),
        ([*AGGREGATION, "rounds.sources=1", "rounds.sets=8"], "no prompt quotes several"),
        (["rounds/search=aggregate", "rounds.search.sources=1"], "no prompt quotes several"),
        (["rounds/search=aggregate", "evaluation.rounds=[1,2]"], r"evaluation.rounds=\[1\] no prompt quotes several"),
        (["rounds/search=vote"], "no prompt quotes several"),
        ([*AGGREGATION, "evaluation.floor=4"], "evaluation.floor=4 compares two verdicts"),
        ([*AGGREGATION, "control.sources=first"], "control.sources='first': must be one of as_written, shuffled"),
    ],
)
def test_other_settings_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compose("evaluate", ["control.sources=oracle_wrong", *overrides])


def test_controls_of_aggregations_are_valid() -> None:
    settings = compose("evaluate", [*AGGREGATION, "control.sources=shuffled"]).settings
    assert settings.control == Control(sources="shuffled")
    assert not compose("evaluate").settings.control.active
    assert compose("evaluate", ["rounds/search=aggregate", "control.sources=oracle_right"]).settings.control.oracle
    assert compose("evaluate", ["rounds=pdr", "evaluation.rounds=[2]", "control.sources=shuffled"]).settings.control
    with pytest.raises(InputError, match="no prompt quotes several"):
        compose("evaluate", ["rounds=pdr", "rounds.evaluated=long", "control.sources=shuffled"])


def test_the_run_that_writes_drafts_must_fit(tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    trained = compose("train")
    trained.write(same)
    assert compose("evaluate", [*AGGREGATION, f"control.drafts={same}"]).settings.control.drafts == str(same)
    trained.node.model.name = str(save_tiny(tmp_path / "model"))
    trained.node.benchmark.name = "sums"
    trained.write(other)
    with pytest.raises(InputError) as caught:
        compose("evaluate", [*AGGREGATION, f"control.drafts={other}", "rounds.responses=0"])
    text = "\n".join(caught.value.problems)
    assert "that run was trained on benchmark=sums, and here it would write drafts for benchmark=chain-sum" in text
    assert "has another vocabulary than model.name=embedded:tiny" in text
    assert "rounds.responses=0" in text
    whole = compose("evaluate", AGGREGATION).settings
    own = {"rounds": whole.rounds, "evaluation": whole.evaluation, "engine": VLLM()}
    (error,) = run_mistakes(Control(drafts=str(same)), **own)
    assert "two models generate in this process, which only engine=local can" in error
