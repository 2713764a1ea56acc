"""The evaluation loop with an engine that writes given texts: samples, verdicts, statistics, records, planning."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.evaluation import loop
from src.evaluation.loop import evaluate, evaluate_tests, evaluations_of_base
from src.evaluation.results import Results, problems_digest
from src.evaluation.sampling import accepted, chain
from src.evaluation.settings import Evaluation
from src.rounds.carry.answer import Answer
from src.rounds.growing import ALONE
from src.rounds.multi_round import MultiRound
from src.rounds.prompts import Prompts
from src.rounds.search.vote import Vote
from src.types import InputError, Problem, Rollout, Sampling, Status, Turn
from src.verifiers.published import Published
from src.verifiers.tags import stated_answer
from tests.helpers.scripted import Letters, Scripted

PROMPTS = Prompts(first="{question}", later="{question} {progress}", final="", item="{progress}")
PROBLEMS = [Problem("a", "1+1", "2"), Problem("b", "2+2", "4"), Problem("c", "3+3", "6")]


def right(problem: Problem, text: str) -> float:
    return float(stated_answer(text) == problem.answer)


def lenient(problem: Problem, text: str) -> float:
    return float(problem.answer in text)


def strategy(n: int, samples: int, **changes: Any) -> MultiRound:
    values: dict[str, Any] = {"context": 500, "first_tokens": 50, "later_tokens": 50, "progress_tokens": 20}
    values["carry"] = Answer()
    return (
        MultiRound(n=n, prompts=PROMPTS, responses=1, trajectories=1, **values)
        .independent(n, samples, 0.5, 0.9)
        .replace(**changes)
    )


def box(text: str) -> str:
    return f"<reasoning>r</reasoning><answer>\\boxed{{{text}}}</answer>"


def script(turn: Turn) -> str:
    """First samples are right for a and b; second ones write 4, without a box for a."""
    question = Letters().decode(turn.prompt).split()[0]
    if len(turn.path) == 1 and question == "3+3":
        return "thinking"
    first = {"1+1": box("2"), "2+2": box("4"), "3+3": box("7")}[question]
    return first if turn.path[0] == 0 else ("4" if question == "1+1" else box("4"))


def evaluated(rounds: MultiRound, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    return evaluate(Scripted(script), rounds, PROBLEMS, Letters(), {"math": right}, ("key",), **options)


def test_every_chain_is_a_sample_with_its_verdict_and_record() -> None:
    found, records = evaluated(strategy(2, 2))
    assert found.correct == [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert [(record["id"], record["sample"], record["answer"], record["correct"]) for record in records] == [
        ("a", 0, "2", 1.0),
        ("a", 1, None, 0.0),
        ("b", 0, "4", 1.0),
        ("b", 1, "4", 1.0),
        ("c", 0, "7", 0.0),
        ("c", 1, "4", 0.0),
    ]
    record = records[4]
    assert (record["question"], record["gold"], record["rounds"]) == ("3+3", "6", 2)
    assert record["texts"] == ["thinking", box("7")]
    assert record["carried"] == ["", "thinking"]
    assert record["tokens"] == [8, len(box("7"))]
    assert record["statuses"] == ["done", "done"]
    assert set(record) == {
        *("id", "sample", "question", "gold", "answer", "correct", "rounds", "tokens", "statuses", "carried", "texts")
    }


def test_the_summary_by_hand() -> None:
    found, _ = evaluated(strategy(2, 2))
    summary = found.summary
    assert summary["accuracy"] == pytest.approx(0.5)
    assert summary["low"] < 0.5 < summary["high"]
    assert (summary["problems"], summary["samples"], summary["verifier"]) == (3, 2, "math")
    assert (summary["rounds"], summary["temperature"]) == (2, 0.5)
    assert summary["pass_at"] == pytest.approx({"1": 0.5, "2": 2 / 3})
    assert summary["majority"] == pytest.approx((1 + 1 + 0) / 3)
    length = len(box("4"))
    written = [2 * length, 2, 2 * length, 2 * length, 8 + length, 8 + length]  # of both rounds
    assert summary["tokens_per_answer"] == pytest.approx(sum(written) / 6)
    assert summary["rounds_used"] == 2.0
    assert summary["well_formed"] == pytest.approx(8 / 12)
    assert (summary["truncated"], summary["carried_cut"]) == (0.0, 0.0)
    assert set(summary) == {
        *("accuracy", "low", "high", "problems", "samples", "verifier", "rounds", "temperature", "pass_at", "majority"),
        *("tokens_per_answer", "rounds_used", "well_formed", "truncated", "carried_cut", "verifier_failures"),
        *("votes", "vote_calibration", "attempts", "repeated", "per_problem"),
    }
    assert summary["repeated"] == {"answer": "4", "stated": 0.5, "gold": pytest.approx(1 / 3), "elsewhere": 0.25}
    assert summary["per_problem"] == [1.0, 2.0, 0.0]
    assert summary["votes"] == pytest.approx({"1": 0.5, "2": summary["majority"]})
    ends = {"right": 3 / 6, "unanswered": 1 / 6, "wrong": 2 / 6, "changed_to_wrong": 0.0, "truncated": 0.0}
    assert summary["attempts"] == pytest.approx({**ends, "right_of_stated": 3 / 5})


def test_a_right_answer_that_a_later_round_gives_up_is_counted() -> None:
    def fickle(turn: Turn) -> str:
        return box("2") if len(turn.path) == 1 else box("3")

    found, _ = evaluate(Scripted(fickle), strategy(2, 2), PROBLEMS, Letters(), {"math": right}, ("key",))
    assert found.summary["attempts"]["changed_to_wrong"] == pytest.approx(1 / 3)
    assert found.summary["attempts"]["wrong"] == pytest.approx(2 / 3)


def test_the_measurement_floor_and_the_verifiers_error_are_in_the_summary(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    rows = [("2", "2", True), ("2", "02", True), ("2", "3", False), ("4", "5", False)]
    rows_ = [{"gold": gold, "answer": answer, "correct": label} for gold, answer, label in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_))
    asked = PLAN.replace(floor=1, labelled=str(file))
    (one, *_) = evaluate_tests(stub(3), asked, Results(tmp_path / "a"), shown([]))
    (plain, *_) = evaluate_tests(stub(3), PLAN, Results(tmp_path / "b"), shown([]))
    assert (one.summary["floor"]["estimate"], one.summary["floor"]["problems_at_once"]) == (0.0, 1)
    assert one.summary["floor"]["high"] > 0
    assert one.summary["verifier_error"] == {"accepted": 0, "wrong": 2, "rejected": 1, "right": 2}
    assert one.correct == plain.correct
    assert one.summary["key"] != plain.summary["key"]
    assert "floor" not in plain.summary
    (halves, *_) = evaluate_tests(stub(3), PLAN.replace(floor=99), Results(tmp_path / "c"), shown([]))
    assert halves.summary["floor"]["problems_at_once"] == 1, "two problems at once would be the same layout"


def test_a_verifier_that_says_nothing_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    rows = [("2", "3", True), ("2", "2", False)] * 3  # every label contradicts the verifier
    file.write_text("".join(json.dumps({"gold": g, "answer": a, "correct": label}) + "\n" for g, a, label in rows))

    def sampled(turn: Turn) -> str:
        raise AssertionError("sampled")

    with pytest.raises(InputError, match=r"evaluation\.labelled: the verifier accepts wrong answers as often"):
        list(evaluate_tests(stub(3, sampled), PLAN.replace(labelled=str(file)), Results(tmp_path), shown([])))


def test_truncated_turns_and_cut_progress_are_shares() -> None:
    engine = Scripted(lambda turn: "x" * 30, status=Status.TRUNCATED)
    found, _ = evaluate(engine, strategy(2, 1), PROBLEMS, Letters(), {"math": right}, ("key",))
    assert found.summary["truncated"] == 1.0
    assert found.summary["carried_cut"] == 0.5  # of every second round


def test_other_verifiers_judge_the_same_answers() -> None:
    scorers = {"math": right, "lenient": lenient}
    found, records = evaluate(Scripted(script), strategy(1, 2), PROBLEMS[:2], Letters(), scorers, ("key",))
    assert found.correct == [[1.0, 0.0], [1.0, 1.0]]
    assert [record["also"] for record in records] == [{"lenient": v} for v in (1.0, 0.0, 1.0, 1.0)]
    assert found.summary["also"]["lenient"]["disagreements"] == 0
    strict = {"lenient": lenient, "math": lambda problem, text: 0.0}
    found, records = evaluate(Scripted(script), strategy(1, 2), PROBLEMS[:2], Letters(), strict, ("key",))
    other = found.summary["also"]["math"]
    assert (other["accuracy"], other["disagreements"], found.summary["verifier"]) == (0.0, 3, "lenient")
    assert 0.0 == other["low"] < other["high"] < 1.0


@pytest.mark.parametrize(("chunk", "reports"), [(1, [1, 1, 1]), (2, [2, 1]), (256, [3])])
def test_chunks_change_nothing_and_report_progress(chunk: int, reports: list[int]) -> None:
    seen: list[int] = []
    found, records = evaluated(strategy(2, 2), chunk=chunk, progress=seen.append)
    whole, expected = evaluated(strategy(2, 2))
    assert (found, records) == (whole, expected)
    assert seen == reports


def test_each_sample_of_a_search_is_a_tree_of_its_own() -> None:
    keys: list[int] = []

    def voted(turn: Turn) -> str:
        keys.append(turn.stream)
        return box("xyy"[turn.path[-1]])

    rounds = strategy(1, 2, search=Vote(candidates=3))
    found, records = evaluate(Scripted(voted), rounds, [Problem("a", "q", "y")], Letters(), {"m": right}, ("key",))
    assert found.correct == [[1.0, 1.0]]
    assert [record["answer"] for record in records] == ["y", "y"]
    assert len(set(keys)) == 6, "both trees have random streams of their own"
    assert found.summary["tokens_per_answer"] == 3 * len(box("x")), "pruned candidates cost tokens"


def tree(*turns: tuple[tuple[int, ...], Status]) -> Rollout:
    return Rollout(PROBLEMS[0], tuple(Turn(path, (1,), Sampling(9), status=status) for path, status in turns))


def test_the_accepted_chain_is_the_first_that_was_not_pruned() -> None:
    done, pruned = Status.DONE, Status.PRUNED
    rollout = tree(((0,), pruned), ((1,), done), ((2,), done), ((1, 0), pruned), ((1, 1), done), ((1, 1, 0), pruned))
    assert [turn.path for turn in accepted(rollout)] == [(1,), (1, 1)]
    assert [turn.path for turn in chain(rollout, rollout.turns[2])] == [(2,)]


# planning: which evaluations are made, and which are read


class Weights:
    """Hashes of a policy whose trained weights have changed."""

    base_hash = "base"

    def trained_hash(self) -> str:
        return "trained"

    def gathered(self) -> AbstractContextManager[None]:
        return nullcontext()


def stub(step: int, script: Callable[[Turn], str] = script, **settings: Any) -> Any:
    benchmark = SimpleNamespace(name="sums", origin=lambda split: f"rows of {split}", judging={"verify_seconds": 5.0})
    rounds = MultiRound(
        n=3,
        prompts=PROMPTS,
        responses=4,
        trajectories=2,
        context=500,
        first_tokens=50,
        later_tokens=50,
        progress_tokens=20,
        carry=Answer(),
    )
    return SimpleNamespace(
        settings=SimpleNamespace(
            benchmark=benchmark,
            rounds=rounds,
            model=SimpleNamespace(precision="float32", quantization=None),
            engine=SimpleNamespace(),
            seed=settings.get("seed", 5),
        ),
        splits=SimpleNamespace(tests={"easy": PROBLEMS, "hard": PROBLEMS[:1]}),
        engine=Scripted(script),
        codec=Letters(),
        scorers={"math": right},
        judges=[Published()],
        policy=Weights(),
        step=step,
        config=SimpleNamespace(changed={"seed": (0, 5)}),
        world=ALONE,
    )


PLAN = Evaluation(rounds=[1, 2, 1], samples=1, temperature=0.0, top_p=1.0, limit=2)


def shown(seen: list[Any]) -> Any:
    def show(name: str, size: int) -> Callable[[int], None]:
        seen.append((name, size))
        return lambda done: seen.append(done)

    return show


def test_every_split_is_evaluated_once_at_every_number_of_rounds(tmp_path: Path) -> None:
    seen: list[Any] = []
    found = list(evaluate_tests(stub(3), PLAN, Results(tmp_path), shown(seen)))
    assert [one.name for one in found] == [("sums", split, n) for split in ("easy", "hard") for n in (1, 2)]
    assert seen[:4] == [("sums-easy_rounds1", 2), 2, ("sums-easy_rounds2", 2), 2]
    assert seen[4:] == [("sums-hard_rounds1", 1), 1, ("sums-hard_rounds2", 1), 1]
    summary = found[0].summary
    assert (summary["step"], summary["seed"], summary["base_sha256"]) == (3, 5, "base")
    assert summary["data"] == "rows of easy"
    assert summary["changed"] == {"seed": {"run": 0, "here": 5}}
    assert [one.correct for one in found] == [[[1.0], [1.0]], [[1.0], [1.0]], [[1.0]], [[1.0]]]
    decided = summary["decided_by"]
    assert decided == {
        "weights": {"base": "base", "trained": "trained"},
        "precision": {"dtype": "float32", "quantization": None},
        "problems": {"origin": "rows of easy", "sha256": problems_digest(PROBLEMS[:2])},
        "strategy": PLAN.chains(stub(3).settings.rounds, "easy", 1).described(),
        "seed": 5,
        "verifiers": [Published().described()],
        "judging": {"verify_seconds": 5.0},
        "engine": "SimpleNamespace",
    }
    assert summary["key"] == loop.digest(decided)
    assert summary["protocol"] == loop.digest({**decided, "weights": None})


def test_an_evaluation_that_is_there_is_read(tmp_path: Path) -> None:
    first = list(evaluate_tests(stub(3), PLAN, Results(tmp_path), shown([])))
    seen: list[Any] = []
    again = list(evaluate_tests(stub(3, script=lambda turn: "other"), PLAN, Results(tmp_path), shown(seen)))
    assert seen == []
    assert [one.summary for one in again] == [one.summary for one in first]


@pytest.mark.parametrize(("step", "trained"), [(0, None), (1, "trained")])
def test_trained_weights_count_from_the_first_step_on(tmp_path: Path, step: int, trained: str | None) -> None:
    (one, *_) = evaluate_tests(stub(step), PLAN, Results(tmp_path), shown([]))
    assert one.summary["decided_by"]["weights"] == {"base": "base", "trained": trained}


def test_base_and_policy_share_random_streams_and_seeds_do_not(tmp_path: Path) -> None:
    streams: dict[tuple[int, int], list[int]] = {}
    for step, seed in ((0, 5), (3, 5), (3, 6)):
        seen = streams.setdefault((step, seed), [])

        def noted(turn: Turn, seen: list[int] = seen) -> str:
            seen.append(turn.stream)
            return script(turn)

        list(evaluate_tests(stub(step, noted, seed=seed), PLAN, Results(tmp_path / f"{step}-{seed}"), shown([])))
    assert streams[0, 5] == streams[3, 5]
    assert not set(streams[3, 5]) & set(streams[3, 6])
    easy, longer = streams[3, 5][:2], streams[3, 5][2:4]
    assert not set(easy) & set(longer), "numbers of rounds have streams of their own"


def test_evaluations_of_the_base_are_read_or_missed(tmp_path: Path) -> None:
    results = Results(tmp_path)
    before = list(evaluate_tests(stub(0), PLAN, results, shown([])))
    assert [one.summary for one in evaluations_of_base(stub(3), PLAN, results)] == [one.summary for one in before]
    more = Evaluation(**{**PLAN.model_dump(), "rounds": [1, 3]})
    with pytest.raises(
        InputError, match=r"the evaluation of the base on easy over 3 rounds is missing.*Restore its files"
    ):
        evaluations_of_base(stub(3), more, results)
    trained = Results(tmp_path / "trained")
    list(evaluate_tests(replace_step(stub(3)), PLAN, trained, shown([])))
    with pytest.raises(InputError, match="the evaluation of the base on easy over 1 rounds is missing"):
        evaluations_of_base(stub(3), PLAN, trained)


def replace_step(run: Any) -> Any:
    run.step = 3
    return run
