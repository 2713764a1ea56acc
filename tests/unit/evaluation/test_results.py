"""Evaluation results are found by key, never overwrite others, and are paired only within a protocol."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.results import Evaluated, Results, compare, digest, disagreements, problems_digest
from src.evaluation.statistics import Interval, paired_difference
from src.types import Problem
from src.utils.files import read_jsonl


def result(key: str, correct: list[list[float]] | None = None, protocol: str = "p", **about: Any) -> Evaluated:
    correct = correct or [[1.0, 0.0], [0.0, 0.0]]
    summary = {"benchmark": "b", "split": "easy", "rounds": 3, "samples": len(correct[0]), "key": key}
    verdicts = [verdict for row in correct for verdict in row]
    summary |= {"problems": len(correct), "accuracy": sum(verdicts) / len(verdicts)}
    summary |= {"low": 0.1, "high": 0.5, "protocol": protocol, "verifier": "own"}
    return Evaluated({**summary, **about}, correct)


def records(found: Evaluated, **about: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"p{problem}", "sample": sample, "correct": verdict, "answer": "7", "gold": "8", **about}
        for problem, row in enumerate(found.correct)
        for sample, verdict in enumerate(row)
    ]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# writing and finding


def test_a_written_evaluation_is_read_back_unchanged(tmp_path: Path) -> None:
    results, first = Results(tmp_path / "step_4"), result("k1", [[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    assert results.write(first, records(first)) == tmp_path / "step_4" / "b-easy_rounds3.json"
    assert results.find("k1") == first
    assert first.name == ("b", "easy", 3)
    assert first.interval == Interval(2.5 / 6, 0.1, 0.5)
    assert sorted(content(tmp_path / "step_4")) == ["b-easy_rounds3.json", "b-easy_rounds3.jsonl"]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\xff" + content[1:],
        lambda content: content.replace(b'"correct": 1.0', b'"correct": 0.0').replace(
            b'"accuracy": 0.25', b'"accuracy": 0.5'
        ),
        lambda content: b"[1]\n",
    ],
)
def test_a_damaged_evaluation_does_not_count(tmp_path: Path, suffix: str, damage: Any) -> None:
    results, first = Results(tmp_path), result("k1")
    results.write(first, records(first))
    file = tmp_path / f"b-easy_rounds3.{suffix}"
    file.write_bytes(damage(file.read_bytes()))
    assert results.find("k1") is None
    results.write(first, records(first))
    assert results.find("k1") == first


def test_an_evaluation_is_found_by_its_key_only(tmp_path: Path) -> None:
    results, first = Results(tmp_path), result("k1")
    assert results.find("k1") is None
    results.write(first, records(first))
    for key in ("k2", "K1", "k", ""):  # same benchmark, split and rounds, another key
        assert results.find(key) is None
    for name in ("b-easy_rounds3.json", "b-easy_rounds3.jsonl"):
        (tmp_path / name).rename(tmp_path / name.replace("b-easy_rounds3", "any-name"))
    assert results.find("k1") == first


def test_a_summary_without_a_key_is_not_found(tmp_path: Path) -> None:
    """Summaries of older runs have no key, so what decided them is unknown."""
    results, first, older = Results(tmp_path), result("k1"), result("k0")
    del older.summary["key"]
    (tmp_path / "b-easy_rounds3.json").write_text(json.dumps(older.summary))
    (tmp_path / "b-easy_rounds3.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records(older)))
    before = content(tmp_path)
    assert results.find("k1") is None
    results.write(first, records(first))
    assert results.find("k1") == first
    assert before.items() < content(tmp_path).items()


def test_a_second_evaluation_never_changes_the_first(tmp_path: Path) -> None:
    """With the same name and another key, all files of the second (also disagreements) get names of their own."""
    results = Results(tmp_path)
    first, second = result("1" * 64, also={"math": {}}), result("2" * 64, [[0.0], [1.0]], also={"math": {}})
    results.write(first, records(first, also={"math": 0.0}))
    before = content(tmp_path)
    assert len(before) == 3
    path = results.write(second, records(second, also={"math": 0.0}))
    assert path == tmp_path / "b-easy_rounds3_22222222.json"
    after = content(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "b-easy_rounds3_22222222.json",
        "b-easy_rounds3_22222222.jsonl",
        "b-easy_rounds3_22222222_disagreements.jsonl",
    }
    assert (results.find("1" * 64), results.find("2" * 64)) == (first, second)


def test_the_same_evaluation_is_written_to_the_same_files(tmp_path: Path) -> None:
    results, first, other = Results(tmp_path), result("1" * 64), result("2" * 64)
    for one in (first, other, first, other):
        results.write(one, records(one))
    assert sorted(content(tmp_path)) == [
        "b-easy_rounds3.json",
        "b-easy_rounds3.jsonl",
        "b-easy_rounds3_22222222.json",
        "b-easy_rounds3_22222222.jsonl",
    ]


@pytest.mark.parametrize("about", [{"split": "hard"}, {"rounds": 1}, {"benchmark": "c"}])
def test_other_splits_rounds_and_benchmarks_have_other_file_names(tmp_path: Path, about: dict[str, Any]) -> None:
    results, first, other = Results(tmp_path), result("k1"), result("k2", **about)
    for one in (first, other):
        results.write(one, records(one))
    benchmark, split, rounds = other.name
    assert (tmp_path / f"{benchmark}-{split}_rounds{rounds}.json").is_file()
    assert (results.find("k1"), results.find("k2")) == (first, other)


def test_an_incomplete_evaluation_is_not_found(tmp_path: Path) -> None:
    """The summary is written last, so records without a summary come from a killed evaluation."""
    results, first = Results(tmp_path), result("k1")
    results.write(first, records(first))
    (tmp_path / "b-easy_rounds3.json").unlink()
    assert results.find("k1") is None
    results.write(first, records(first))
    assert results.find("k1") == first


def test_disagreements_lists_answers_that_verifiers_judge_differently() -> None:
    first = result("k1", [[1.0, 0.0]])
    verdicts = [{"math": 1.0, "tags": 1.0}, {"math": 0.0, "tags": 1.0}]
    lines = [one | {"also": also} for one, also in zip(records(first), verdicts, strict=True)]
    assert disagreements("own", lines) == [
        {"id": "p0", "sample": 1, "answer": "7", "gold": "8", "verdicts": {"own": 0.0, "math": 0.0, "tags": 1.0}}
    ]


def test_disagreements_are_written_next_to_the_records(tmp_path: Path) -> None:
    one = result("k1", [[1.0, 0.0]], also={"math": {}})
    Results(tmp_path).write(one, records(one, also={"math": 0.0}))
    (line,) = read_jsonl(tmp_path / "b-easy_rounds3_disagreements.jsonl")
    assert line == {"id": "p0", "sample": 0, "answer": "7", "gold": "8", "verdicts": {"own": 1.0, "math": 0.0}}


# comparing


def test_only_evaluations_with_the_same_protocol_are_paired() -> None:
    before = [result("b1", [[0.0], [0.0], [1.0]]), result("b2", [[1.0], [1.0]], "q", split="hard")]
    after = [
        result("a1", [[1.0], [0.0], [1.0]]),
        result("a2", [[0.0], [1.0]], "q", split="hard"),
        result("a3", [[0.0], [1.0]], "r", split="hard"),  # same name as a2, another protocol
    ]
    found = compare(before, after)
    assert found["before"] == [one.summary for one in before]
    assert found["after"] == [one.summary for one in after]
    changes = [paired_difference(one.correct, two.correct) for one, two in zip(before, after, strict=False)]
    assert found["change"] == [
        {"benchmark": "b", "split": split, "rounds": 3, "problems": problems, **vars(change)}
        for split, change, problems in zip(("easy", "hard"), changes, (3, 2), strict=True)
    ]
    assert [change["estimate"] for change in found["change"]] == pytest.approx([1 / 3, -0.5])


def test_the_last_weights_are_compared_with_the_best_ones() -> None:
    last, best = [result("l", [[0.0], [0.0], [1.0]])], [result("a", [[1.0], [0.0], [1.0]])]
    found = compare([], best, last)
    assert found["last"] == [last[0].summary]
    assert [change["estimate"] for change in found["last_to_best"]] == pytest.approx([1 / 3])
    assert "last" not in compare([], best)


def test_without_evaluations_before_there_are_no_changes() -> None:
    found = compare([], [result("a1")])
    assert (found["before"], found["change"], len(found["after"])) == ([], [], 1)


# digests


def test_a_digest_depends_on_content_and_not_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": None}, {"a": [1]}, {"b": 1}, {"a": 1, "b": None}, [2, 1], [1, 2]]
    assert len({digest(value) for value in values}) == len(values)


def test_the_digest_of_problems_depends_on_id_question_gold_and_order() -> None:
    one, two = Problem("1", "a", "x"), Problem("2", "b", "y")
    sets = [[one, two], [two, one], [one], [], [one, Problem("3", "b", "y")]]
    sets += [[one, Problem("2", "c", "y")], [one, Problem("2", "b", "z")]]
    assert len({problems_digest(problems) for problems in sets}) == len(sets)
    assert problems_digest([one, two]) == problems_digest([Problem("1", "a", "x"), Problem("2", "b", "y")])


def test_further_right_answers_are_a_part_of_the_problem() -> None:
    one, other = (Problem("1", "a", "x", {"answers": answers}) for answers in (("y",), ("z",)))
    assert len({problems_digest([problem]) for problem in (one, other, Problem("1", "a", "x"))}) == 3


def test_a_digest_is_the_hash_of_the_text_as_utf_8() -> None:
    assert digest({"b": 1, "a": "é"}) == hashlib.sha256('{"a": "é", "b": 1}'.encode()).hexdigest()
