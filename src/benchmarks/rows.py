"""Rows of tables in files (JSONL, JSON, CSV, TSV, Parquet) and on the Hugging Face hub."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from src.types import InputError

Rows = Iterator[Any]
"""A mapping for each row, or a string that says why a row is invalid."""


def read_file(path: Path) -> Rows:
    """Read the rows of a local file, in the format of its suffix; files without a known suffix are JSONL.

    Text is UTF-8, with or without a byte order mark; blank lines are skipped.

    Raises:
        InputError: the file cannot be read at all.
    """
    return FORMATS.get(path.suffix, _jsonl)(path)


def read_hub(name: str, subset: str | None, split: str, revision: str | None) -> Rows:
    """Read the rows of a dataset repository.

    Raises:
        InputError: the repository cannot be read.
    """
    import datasets

    try:
        return iter(datasets.load_dataset(name, subset, split=split, revision=revision))
    except Exception as error:  # the library raises many types, and their messages do not name the table
        raise InputError(
            f"{name} cannot be read: {_first(error)}; to use a local copy, set benchmark.source=<folder>"
        ) from error


def _jsonl(path: Path) -> Rows:
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line.decode("utf-8"), parse_constant=_not_a_number)
            except UnicodeDecodeError as error:
                row = f"not UTF-8 (byte {error.start + 1} of line {number}); save the file as UTF-8"
            except (ValueError, RecursionError) as error:
                row = f"not JSON ({error})"
            yield row if isinstance(row, (dict, str)) else "not a JSON object"


def _json(path: Path) -> Rows:
    try:
        rows = json.loads(_text(path), parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path} does not hold a JSON array of rows; save one JSON object per line as .jsonl")
    return iter(row if isinstance(row, dict) else "not a JSON object" for row in rows)


def _csv(path: Path) -> Rows:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
    for row in reader:
        if None in row or None in row.values():
            yield f"line {reader.line_num} does not have {len(reader.fieldnames or ())} columns, as the first line has"
        else:
            yield row


def _parquet(path: Path) -> Rows:
    import datasets

    try:
        with tempfile.TemporaryDirectory() as cache:
            return iter(datasets.Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True).to_list())
    except Exception as error:  # as in read_hub
        raise InputError(f"{path} cannot be read: {_first(error)}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON value")


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


FORMATS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
}
"""Readers by suffix, in the order in which a file without its suffix is looked for."""
