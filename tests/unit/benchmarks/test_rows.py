"""Tables as people bring them: formats, encodings, nested columns, lists, filters; invalid rows are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.benchmarks.dataset import Dataset
from src.benchmarks.table import Table
from src.config import compose
from src.types import InputError, Problem

ROWS = [{"question": "1 + 2?", "answer": "3"}, {"question": "1 + 3?", "answer": "4"}]
READ = [("1 + 2?", "3"), ("1 + 3?", "4")]


def data(path: Path, **table: Any) -> Dataset:
    return Dataset(name="mine", source=str(path.parent), tests={"test": Table(name="test", file=path.name, **table)})


def problems(path: Path, **table: Any) -> list[Problem]:
    return list(data(path, **table).load().tests["test"])


def read(path: Path, **table: Any) -> list[tuple[str, str]]:
    return [(problem.question, problem.answer) for problem in problems(path, **table)]


def lines(folder: Path, *rows: Any) -> Path:
    """A JSONL file; rows are objects, text or bytes."""
    path = folder / "test.jsonl"
    parts = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"\n".join(parts) + b"\n")
    return path


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.jsonl", BOM + b"\n".join(json.dumps(row).encode() for row in ROWS)),
        ("test.jsonl", b"\r\n".join(json.dumps(row).encode() for row in ROWS) + b"\r\n\r\n"),
        ("test.jsonl", b"\n" + b"\n \n".join(json.dumps(row).encode() for row in ROWS) + b"\n\n"),
        ("test.json", json.dumps(ROWS, indent=2).encode()),
        ("test.json", BOM + json.dumps(ROWS).encode()),
        ("test.csv", b"question,answer\n1 + 2?,3\n1 + 3?,4\n"),
        ("test.csv", BOM + b'answer,question\r\n3,"1 + 2?"\r\n4,1 + 3?\r\n'),
        ("test.tsv", b"question\tanswer\n1 + 2?\t3\n1 + 3?\t4\n"),
    ],
    ids=["mark", "CRLF", "blank lines", "array", "array with mark", "CSV", "CSV of Windows", "TSV"],
)
def test_formats(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read(path) == READ
    assert data(path.with_suffix("")).load().tests["test"][0].answer == "3", "found without its suffix"


def test_a_csv_cell_may_hold_commas_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text('question,answer\n"What is\n1,000 + 1?","1,001"\n')
    assert read(path) == [("What is\n1,000 + 1?", "1,001")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"question": "Café", "answer": "1"}'.encode("latin-1"), r"row 2: not UTF-8 \(byte 18 of line 2\)"),
        ('{"question": "q", "answer": NaN}', "row 2: not JSON .*NaN is no JSON value"),
        ('{"question": "q"', "row 2: not JSON"),
        ("[1]", "row 2: not a JSON object"),
        ({"question": "q"}, "row 2: no column answer; its columns: question"),
        (
            {"question": "q", "answer": {"ground_truth": "3"}},
            r"holds a dict.*name its field, e\.g\. answer\.ground_truth",
        ),
        ({"question": "q", "answer": True}, "the column answer holds a bool, where a text or a number is needed"),
        ({"question": "q", "answer": []}, r"the answer \(answer\) is an empty list"),
        ({"question": "q", "answer": [["3"]]}, "the column answer holds a list"),
        ({"question": {"text": "q"}, "answer": "3"}, r"the column question holds a dict.*question\.text"),
        ({"question": [{"role": "user", "content": "a"}] * 2, "answer": "3"}, "holds a conversation"),
        ({"question": "", "answer": "3"}, r"the question \(question\) is empty"),
    ],
)
def test_a_row_that_is_no_problem_is_named(tmp_path: Path, row: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(lines(tmp_path, {"question": "first", "answer": "1"}, row))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("test.json", b'{"rows": []}', "does not hold a JSON array"),
        ("test.json", b"[1", "is not JSON"),
        ("test.csv", b"question,answer\na,1,2\n", "row 1: line 2 does not have 2 columns"),
        ("test.csv", b"question,answer\na\n", "row 1: line 2 does not have 2 columns"),
        ("test.csv", "question,answer\nq,1\nCafé,1\n".encode("latin-1"), "line 3: not UTF-8"),
        ("test.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(path)


def test_columns_may_be_paths_and_a_question_one_message(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "1 + 2 ="}],
        "reward_model": {"style": "rule", "ground_truth": "3"},
        "a.b": 7,
    }
    path = lines(tmp_path, row)
    assert read(path, question="prompt", answer="reward_model.ground_truth") == [("1 + 2 =", "3")]
    assert read(path, question="prompt", answer="a.b") == [("1 + 2 =", "7")], "a column of that very name comes first"
    with pytest.raises(InputError, match=r"no column reward_model\.answer"):
        read(path, question="prompt", answer="reward_model.answer")


def test_a_list_holds_several_right_answers(tmp_path: Path) -> None:
    table = data(lines(tmp_path, {"question": "A root of x^2 = 4?", "answer": ["2", "-2"]}))
    (problem,) = table.load().tests["test"]
    assert (problem.answer, problem.metadata["answers"]) == ("2", ("-2",))
    verdicts = [table.score(problem, f"\\boxed{{{text}}}") for text in ("2", "-2", "4")]
    assert verdicts == [1.0, 1.0, 0.0]


def test_the_gold_in_the_last_box(tmp_path: Path) -> None:
    path = lines(tmp_path, {"question": "q", "answer": r"\boxed{1}, no: \boxed{\frac{1}{2}}."})
    (problem,) = problems(path, boxed=True)
    assert problem.answer == r"\frac{1}{2}"
    assert problem.metadata["solution"].startswith(r"\boxed{1}")
    with pytest.raises(InputError, match="does not contain"):
        read(lines(tmp_path, {"question": "q", "answer": "1"}), boxed=True)


def test_a_unit_is_appended_to_the_gold(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "3", "unit": "cm"}, {"question": "b", "answer": 4, "unit": None}]
    assert read(lines(tmp_path, *rows), unit="unit") == [("a", "3 cm"), ("b", "4")]


def test_a_filter_keeps_rows_and_their_numbers(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": n, "level": n % 2, "meta": {"kind": "x"}} for n in range(4)]
    path = lines(tmp_path, *rows)
    assert [problem.id for problem in problems(path, where={"level": 1})] == ["test/1", "test/3"]
    assert len(problems(path, where={"meta.kind": "x", "level": 0})) == 2
    with pytest.raises(InputError, match=r"has no rows with \{'level': 9\}"):
        read(path, where={"level": 9})


SAMPLES: dict[str, tuple[dict[str, Any], str, str]] = {
    "amc23": (
        {"id": 0, "question": "Cities $A$ and $B$ are 45 miles apart. How far from A do they meet?", "answer": 27.0},
        "27",
        "28",
    ),
    "aime2025": ({"id": "0", "problem": "Find the sum of all bases b > 9 …", "answer": "70"}, "70", "7"),
    "minerva": ({"question": "What is the energy in eV?", "answer": "13.6"}, "13.6", "1.36"),
    "olympiadbench": (
        {
            "id": 1606,
            "question": "Find $T$.",
            "final_answer": ["$\\frac{1}{2}$"],
            "is_multiple_answer": False,
            "unit": None,
        },
        "0.5",
        "2",
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_benchmarks_by_name_read_the_rows_that_are_published(tmp_path: Path, name: str) -> None:
    row, right, wrong = SAMPLES[name]
    skipped = [{**row, "id": 7, "is_multiple_answer": True}] if name == "olympiadbench" else []
    path = tmp_path / name / "test.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, [row, *skipped])))
    benchmark = compose("evaluate", [f"benchmark={name}", f"benchmark.source={tmp_path}"]).settings.benchmark
    (problem,) = benchmark.load().tests["test"]
    assert benchmark.score(problem, f"\\boxed{{{right}}}") == 1.0
    assert benchmark.score(problem, f"\\boxed{{{wrong}}}") == 0.0


@pytest.mark.parametrize("name", SAMPLES)
def test_the_hub_is_read_at_a_commit_that_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"benchmark\.tests\.test\.revision is null; use a commit of"):
        compose("evaluate", [f"benchmark={name}"])
