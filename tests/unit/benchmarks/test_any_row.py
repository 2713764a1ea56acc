"""Whatever a line of a file holds, it is a problem, or refused with its file and row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.benchmarks.dataset import Dataset
from src.benchmarks.table import Table
from src.types import InputError, Problem

ANY = st.characters(codec=None)
"""All characters, with halves of surrogate pairs, which JSON can spell."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY, max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(ANY, max_size=3), inside, max_size=3),
    max_leaves=6,
)
COLUMNS = st.sampled_from(["question", "answer", "id", "other"])
ROWS = st.dictionaries(COLUMNS, VALUES, max_size=4) | st.fixed_dictionaries({"question": VALUES, "answer": VALUES})
LINES = (ROWS | VALUES).map(json.dumps).map(str.encode) | st.binary(max_size=40)


class Unverified(Dataset):
    """A data set that accepts every gold answer, since verdicts are tested elsewhere."""

    def score(self, problem: Problem, text: str) -> float:
        return 1.0


def load(path: Path, content: bytes, **table: Any) -> tuple[list[Problem], tuple[str, ...]]:
    """The problems of a file with this content, or what is wrong with it."""
    path.write_bytes(content)
    tables = {"test": Table(name="test", file=path.name, **table)}
    try:
        return list(Unverified(name="mine", source=str(path.parent), tests=tables).load().tests["test"]), ()
    except InputError as error:
        return [], error.problems


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.mark.parametrize("table", [{}, {"id": "id"}, {"boxed": True}, {"after": "#"}], ids=str)
@settings(max_examples=100, deadline=None)
@given(line=LINES)
@example(line=b"[" * 100_000)
@example(line=b'{"question": "\\ud800", "answer": "1"}')
@example(line=b'{"question": "q", "answer": 1e999}')
@example(line=b'{"question": "q", "answer": ' + b"9" * 5000 + b"}")
def test_any_line_is_a_problem_or_refused(folder: Path, table: dict[str, Any], line: bytes) -> None:
    problems, mistakes = load(folder / "test.jsonl", line, **table)
    assert bool(problems) != bool(mistakes)
    assert all("test.jsonl, row " in one or one.endswith("test.jsonl has no rows") for one in mistakes)
    for problem in problems:
        assert problem.question.strip()
        json.dumps([problem.id, problem.question, problem.answer], ensure_ascii=False).encode()


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60) | VALUES.map(json.dumps).map(str.encode) | st.just(b"[" * 100_000))
@pytest.mark.parametrize("suffix", ["json", "csv", "tsv"])
def test_any_content_is_a_table_or_refused(folder: Path, suffix: str, content: bytes) -> None:
    problems, mistakes = load(folder / f"test.{suffix}", content)
    assert bool(problems) != bool(mistakes)
    assert all(f"test.{suffix}" in one for one in mistakes)
