"""Data sets from files and from the hub: reading, validation errors, recorded origins."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from pydantic import ValidationError

from src.benchmarks.dataset import Dataset, Table
from src.config import ROOT, compose
from src.types import InputError
from tests.helpers.sections import mistakes, run_mistakes

DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the benchmarks are not in {DATA}")


def row(number: int, **others: Any) -> dict[str, Any]:
    return {"id": f"n{number}", "question": f"What is {number} + 1?", "answer": f"It is\n#### {number + 1}", **others}


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows), "utf-8")
    return path


def values(folder: Path, train: Sequence[Any] | None, test: Sequence[Any], **options: Any) -> dict[str, Any]:
    """Write the rows, and give the settings of a data set that reads them."""
    write(folder / "test.jsonl", test)
    if train is not None:
        write(folder / "train.jsonl", train)
    columns = {"id": "id", "after": "####"}
    tables = {
        "tests": {"test": Table(name="test", file="test", **columns)},
        "train": Table(name="train", file="train", **columns) if train is not None else None,
    }
    return {"name": "mine", "source": str(folder), "validation_size": 2, **tables, **options}


def make(folder: Path, train: Sequence[Any] | None, test: Sequence[Any], **options: Any) -> Dataset:
    return Dataset(**values(folder, train, test, **options))


def test_rows_become_problems(tmp_path: Path) -> None:
    splits = make(tmp_path, [row(n) for n in range(10)], [row(n) for n in range(20, 23)]).load()
    assert (len(splits.train), len(splits.validation)) == (8, 2)
    found = [(problem.id, problem.question, problem.answer) for problem in splits.tests["test"]]
    assert found == [(f"test/n{n}", f"What is {n} + 1?", str(n + 1)) for n in range(20, 23)]
    assert splits.tests["test"][0].metadata == {"source": "test", "solution": "It is"}
    ids = {problem.id for problem in [*splits.train, *splits.validation]}
    assert ids == {f"train/n{n}" for n in range(10)}


def test_test_splits_can_be_perturbed_and_are_still_cited(tmp_path: Path) -> None:
    rows = [{**row(n), "question": f"Tom thinks of a number. What is {n} + 1?"} for n in range(20, 24)]
    data = make(tmp_path, [row(n) for n in range(9)], rows, perturb=["distractor", "typos"])
    assert run_mistakes(data) == []
    tests = data.load().tests
    assert list(tests) == ["test", "test-distractor", "test-typos"]
    for name, problems in tests.items():
        assert [problem.id for problem in problems] == [f"test/n{n}" for n in range(20, 24)]
        assert [problem.answer for problem in problems] == ["21", "22", "23", "24"]
        assert data.origin(name) == data.origin("test")
    assert all("What is" in problem.question for problem in tests["test-distractor"])
    assert tests["test-distractor"][0].question != tests["test"][0].question
    (error,) = mistakes(Dataset, "benchmark", **values(tmp_path, None, rows, perturb=["renumbered"]))
    assert "renumbered cannot recompute the gold answer of a data set" in error


def judged(folder: Path, rows: Sequence[Any], answer: str, **table: Any) -> list[float]:
    write(folder / "test.jsonl", rows)
    benchmark = Dataset(name="mine", tests={"test": Table(name="test", file=str(folder / "test.jsonl"), **table)})
    return [benchmark.score(problem, f"\\boxed{{{answer}}}") for problem in benchmark.load().tests["test"]]


def test_a_tolerance_holds_for_a_table_or_for_a_row(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": "2.5", "within": within} for n, within in enumerate([0.1, "1e-3", None])]
    assert judged(tmp_path, rows, "2.502") == [0.0, 0.0, 0.0]
    assert judged(tmp_path, rows, "2.502", tolerance=1e-3) == [1.0, 1.0, 1.0]
    assert judged(tmp_path, rows, "2.502", tolerance="within") == [1.0, 1.0, 0.0]
    assert judged(tmp_path, rows, "2.6", tolerance="within") == [1.0, 0.0, 0.0]
    with pytest.raises(InputError, match=r"row 1: the tolerance \(answer\) is '2.5'; it must be a number in \[0, 1\)"):
        judged(tmp_path, rows, "2.5", tolerance="answer")
    with pytest.raises(ValidationError, match=r"tolerance=1.5 must be in \[0, 1\)"):
        Table(name="t", file="t", tolerance=1.5)


def test_the_validation_split_depends_on_the_seed(tmp_path: Path) -> None:
    first = make(tmp_path, [row(n) for n in range(30)], [row(99)])
    same, other = (make(tmp_path, [row(n) for n in range(30)], [row(99)], seed=seed) for seed in (0, 1))
    assert first.load() == same.load()
    assert first.load().validation != other.load().validation


def test_sizes_limit_splits(tmp_path: Path) -> None:
    sizes = {"train_size": 3, "validation_size": 4, "test_size": 1}
    splits = make(tmp_path, [row(n) for n in range(10)], [row(n) for n in range(20, 23)], **sizes).load()
    assert (len(splits.train), len(splits.validation), len(splits.tests["test"])) == (3, 4, 1)
    longer = make(tmp_path, [row(n) for n in range(10)], [row(30)], **{**sizes, "train_size": 5}).load()
    assert longer.validation == splits.validation
    assert longer.train[:3] == splits.train


def test_no_question_is_trained_on_that_is_tested_or_seen(tmp_path: Path) -> None:
    spaced = {**row(3), "id": "spaced", "question": " What  is 3 + 1? "}
    train = [*(row(n) for n in range(10)), {**row(4), "id": "again"}, spaced]
    splits = make(tmp_path, train, [row(3), row(40)]).load()
    trained = [problem.id for problem in [*splits.train, *splits.validation]]
    assert sorted(trained) == [f"train/n{n}" for n in range(10) if n != 3]


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    table = Table(name="plain", file=str(write(tmp_path / "plain.jsonl", [{"question": "1?", "answer": 1}])))
    problems = Dataset(name="plain", tests={"test": table}).load().tests["test"]
    assert [(problem.id, problem.answer) for problem in problems] == [("plain/0", "1")]


BAD = {
    '{"question": "open': r"row 2: not JSON \(",
    "[1, 2]": "row 2: not a JSON object",
    '{"id": 1, "answer": "#### 2"}': "row 2: no column question; its columns: id, answer",
    '{"id": null, "question": "?", "answer": "#### 2"}': "row 2: no column id; its columns: id, question, answer",
    '{"id": 1, "question": " ", "answer": "#### 2"}': r"row 2: the question \(question\) is empty",
    '{"id": 1, "question": "?", "answer": "2"}': r"row 2: the answer \(answer\) does not contain '####'",
    '{"id": 1, "question": "?", "answer": "####"}': "row 2: the verifier rejects the gold answer '' itself",
    '{"id": 1, "question": "?", "answer": "#### \\\\frac{1}{2"}': "row 2: the verifier rejects the gold answer",
    '{"id": "n0", "question": "?", "answer": "#### 2"}': "row 2: the id test/n0 occurs twice",
    '{"id": 1, "question": "What is 0 + 1?", "answer": "#### 1"}': "test/1 has the same question as test/n0",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_rows_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=BAD[line]) as caught:
        make(tmp_path, None, [row(0), line, row(2)]).load()
    assert len(caught.value.problems) == 1
    assert "same question" in str(caught.value) or str(tmp_path / "test.jsonl") in str(caught.value)


def test_bad_rows_are_reported_together_and_the_first_ten_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        make(tmp_path, ["x"] * 7, ["y"] * 7).load()
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1] == "… and 4 more"
    named = [sum(file in problem for problem in caught.value.problems) for file in ("train.jsonl", "test.jsonl")]
    assert named == [7, 3]


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has only 3 different training questions, but benchmark\.validation_size=2 and"
    ):
        make(tmp_path, [row(n) for n in range(3)], [row(9)], train_size=2).load()
    with pytest.raises(InputError, match="has no rows"):
        make(tmp_path, None, []).load()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"train_size": 0}, "benchmark.train_size=0 must be 1 or more"),
        ({"verify_seconds": 0}, "benchmark.verify_seconds=0 must be above 0"),
        ({"tests": {}}, "benchmark.tests is empty"),
        ({"tests": {"train": Table(name="t", file="test")}}, "a test split cannot be named train"),
        (
            {"tests": {"test": Table(name="t", file="absent")}},
            r"benchmark\.tests\.test: the file \S*absent \(\.jsonl, \.parquet, .*\) does not exist",
        ),
        ({"tests": {"test": Table(name="t", file="absent.jsonl")}}, r"the file \S*absent.jsonl does not exist"),
        ({"tests": {"test": Table(name="t")}}, "benchmark.tests.test.file is null"),
        ({"source": None, "tests": {"test": Table(name="t", hub="a/b")}}, "benchmark.tests.test.revision is null"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    given = values(tmp_path, None, [row(0)], **options)
    errors = mistakes(Dataset, "benchmark", **given) or run_mistakes(Dataset(**given))
    assert any(re.search(text, error) for error in errors), errors


def test_one_file_is_a_source_for_one_table(tmp_path: Path) -> None:
    file = str(tmp_path / "test.jsonl")
    alone = make(tmp_path, None, [row(0)], source=file)
    assert run_mistakes(alone) == []
    assert len(alone.load().tests["test"]) == 1
    both = make(tmp_path, [row(n) for n in range(5)], [row(9)], source=file)
    assert "is one file, but benchmark=mine reads 2 files; use their folder" in run_mistakes(both)[0]


def test_parquet_holds_the_same_problems(tmp_path: Path) -> None:
    rows = [row(n) for n in range(5)]
    lines = make(tmp_path / "lines", None, rows)
    columns = make(tmp_path / "columns", None, rows)
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "columns" / "test.parquet"))
    (tmp_path / "columns" / "test.jsonl").unlink()
    assert columns.load() == lines.load()
    assert "columns/test.parquet sha256:" in columns.origin("test")
    (tmp_path / "columns" / "test.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"test\.parquet cannot be read"):
        columns.load()


def test_the_origin_is_the_files_hash(tmp_path: Path) -> None:
    benchmark = make(tmp_path / "mine", [row(n) for n in range(5)], [row(9)])
    content = (tmp_path / "mine" / "train.jsonl").read_bytes()
    expected = f"mine/train.jsonl sha256:{hashlib.sha256(content).hexdigest()}"
    assert benchmark.origin("train") == benchmark.origin("validation") == expected
    assert benchmark.origin("test") != expected


def test_the_hub_is_read_at_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(path: str, name: str | None, **options: Any) -> datasets.Dataset:
        asked.append((path, name, options["split"], options["revision"]))
        question = {"openai/gsm8k": "question"}.get(path, "problem")
        found = {question: f"{path} {options['split']}?", "answer": "#### 1,080", "unique_id": "u", "id": 60}
        return datasets.Dataset.from_list(
            [{**found, question: f"{found[question]} {n}"} for n in range(129 if name else 1)]
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    benchmark = compose("train", ["benchmark=paper"]).settings.benchmark
    splits = benchmark.load()
    pins = ("740312add88f781978c0658806c59bc2815b9866", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be")
    assert asked == [
        ("openai/gsm8k", "main", "train", pins[0]),
        ("HuggingFaceH4/MATH-500", None, "test", pins[1]),
        ("HuggingFaceH4/aime_2024", None, "train", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a"),
    ]
    assert (len(splits.train), len(splits.validation)) == (1, 128)
    assert splits.train[0].answer == "1,080"
    assert [splits.tests[name][0].id for name in ("math500", "aime2024")] == ["math500/u", "aime2024/60"]
    assert benchmark.origin("math500") == f"HuggingFaceH4/MATH-500@{pins[1]} default test"


def test_an_unreachable_hub_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, *arguments: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError, match=r"openai/gsm8k cannot be read: Couldn't reach the Hub; to use a local copy"):
        compose("train", ["benchmark=gsm8k"]).settings.benchmark.load()


@needs_data
def test_the_papers_data() -> None:
    overrides = ["benchmark=paper", f"benchmark.source={DATA}"]
    benchmark = compose("train", overrides).settings.benchmark
    splits = benchmark.load()
    assert (len(splits.train), len(splits.validation)) == (7345, 128)
    assert {name: len(problems) for name, problems in splits.tests.items()} == {"math500": 500, "aime2024": 30}
    questions = [one.question for part in (splits.train, splits.validation, *splits.tests.values()) for one in part]
    assert len(set(questions)) == 7345 + 128 + 530
    golds = [problem.answer for problem in [*splits.train, *splits.validation]]
    assert sum("," in gold for gold in golds) == 79  # as written: the published comparison needs the comma
    assert sum(problem.answer.startswith("0") for problem in splits.tests["aime2024"]) == 7
    assert sum(problem.answer.lstrip("-").isdigit() for problem in splits.tests["math500"]) == 311
    assert benchmark.score(splits.tests["aime2024"][7], "\\boxed{25}") == 1.0  # gold 025
    assert benchmark.origin("math500") == (
        "math500/test.jsonl sha256:35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132"
    )


@needs_data
@pytest.mark.parametrize(("name", "count"), [("gsm8k", 1319), ("math500", 500), ("aime2024", 30)])
def test_each_benchmark_has_its_test_questions(name: str, count: int) -> None:
    overrides = [f"benchmark={name}", f"benchmark.source={DATA}"]
    benchmark = compose("evaluate", overrides).settings.benchmark
    problems = benchmark.load().tests["test"]
    assert len({problem.id for problem in problems}) == count
    assert benchmark.score(problems[0], f"so \\boxed{{{problems[0].answer}}}") == 1.0


def test_generated_variants_of_gsm8k() -> None:
    overrides = [
        "benchmark=gsm-symbolic",
        "benchmark.train_size=4",
        "benchmark.validation_size=1",
        "benchmark.test_size=2",
    ]
    benchmark = compose("train", [*overrides, "train.problems=4"]).settings.benchmark
    splits = benchmark.load()
    assert [benchmark.score(one, f"\\boxed{{{one.answer}}}") for one in splits.train] == [1.0] * 4
    assert [benchmark.score(one, f"\\boxed{{{one.answer}1}}") for one in splits.train] == [0.0] * 4
    assert benchmark.origin("test").startswith("reasoning-gym 0.1.25 gsm_symbolic {} seed 0")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.evaluate", "model=tiny", "threads=1", *arguments, f"hydra.run.dir={cwd}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_evaluating_ones_own_questions_end_to_end(tmp_path: Path) -> None:
    questions = write(tmp_path / "q.jsonl", [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(3)])
    own = ["benchmark=jsonl", "benchmark.train=null", f"benchmark.tests.test.file={questions}"]
    done = run(*own, "evaluation.limit=2", "rounds=2", cwd=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "evaluation" / "jsonl-test_rounds2.json").read_text())
    assert summary["problems"] == 2
    assert summary["data"] == f"{tmp_path.name}/q.jsonl sha256:{hashlib.sha256(questions.read_bytes()).hexdigest()}"


@needs_data
def test_questions_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    done = run("benchmark=math500", f"benchmark.source={DATA}", "rounds=2", cwd=tmp_path / "out")
    assert done.returncode == 2
    assert "math500/test/" in done.stderr
    assert "model.context" in done.stderr
    assert "more problems" in done.stderr
