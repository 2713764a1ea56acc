"""Atomic writes: files and folders have either their old or their new content."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.utils import files
from src.utils.files import whole_folder


class Crash(BaseException):
    """Simulated kill; no code may catch it."""


def crash(*args, **kwargs):
    raise Crash


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# files

WRITERS = [
    (files.write_text, "new\n", "new\n"),
    (
        files.write_json,
        {"a": "é", "b": [1, 2.5, None]},
        '{\n  "a": "é",\n  "b": [\n    1,\n    2.5,\n    null\n  ]\n}\n',
    ),
    (files.write_jsonl, [{"a": "é"}, 2, "x\ny"], '{"a": "é"}\n2\n"x\\ny"\n'),
]


@pytest.mark.parametrize(("writer", "value", "content"), WRITERS)
def test_writers_replace_the_content(tmp_path, writer, value, content):
    path = tmp_path / "some" / "folder" / "file"
    for _ in range(2):
        writer(path, value)
        assert path.read_text(encoding="utf-8") == content
        assert names(path.parent) == ["file"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize(("writer", "value", "content"), WRITERS)
def test_a_crash_while_writing_leaves_the_old_content(tmp_path, writer, value, content, moment):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.MonkeyPatch.context() as patch:
        if moment == "fsync":
            patch.setattr(os, "fsync", crash)
        else:
            patch.setattr(Path, "replace", crash)
        with pytest.raises(Crash):
            writer(path, value)
    assert path.read_text() == "old"
    writer(path, value)
    assert path.read_text(encoding="utf-8") == content
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("writer", [files.write_json, lambda path, value: files.write_jsonl(path, [1, value])])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_value_that_is_no_json_leaves_the_old_content(tmp_path, writer, value):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises((ValueError, TypeError)):
        writer(path, value)
    assert path.read_text() == "old"


def test_jsonl_round_trip(tmp_path):
    values = [{"a": [1, 2]}, "line\u2028end", None, 3.5]
    files.write_jsonl(tmp_path / "file", values)
    assert list(files.read_jsonl(tmp_path / "file")) == values


# folders


def test_a_folder_is_either_complete_or_absent(tmp_path):
    target = tmp_path / "deep" / "target"
    with whole_folder(target) as draft:
        (draft / "old").write_text("1")
        assert not target.exists()
    with pytest.raises(FileNotFoundError), whole_folder(target) as draft:
        (draft / "half" / "missing").write_text("1")
    assert names(target) == ["old"]
    with whole_folder(target) as draft:
        (draft / "new").write_text("2")
        assert names(target) == ["old"]
    assert names(target) == ["new"]  # no file of the old folder is left
    assert names(target.parent) == ["target"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_with_keep_the_first_folder_stays(tmp_path):
    target = tmp_path / "target"
    for content in ("first", "second"):
        with whole_folder(target, keep=True) as draft:
            (draft / content).write_text(content)
    assert names(target) == ["first"]
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("keep", [True, False])
def test_two_processes_that_make_the_same_folder_do_not_mix(tmp_path, keep):
    """Both start before either finishes: with ``keep`` the first to finish wins, else the last."""
    target = tmp_path / "target"
    with whole_folder(target, keep=keep) as slow:
        (slow / "slow").write_text("1")
        with whole_folder(target, keep=keep) as fast:
            (fast / "fast").write_text("2")
        assert names(target) == ["fast"]
    assert names(target) == (["fast"] if keep else ["slow"])
    assert names(tmp_path) == ["target"]


FILES = ["0", "1", "2", "3"]


def fill(folder: Path, version: int) -> None:
    for name in FILES:
        (folder / name).write_text(str(version))


def replaced_while_read(target: Path, versions: int) -> tuple[set[str], list[str]]:
    """Replace a folder repeatedly while a thread reads it. Returns the versions that were read and all errors."""
    done, seen, wrong = threading.Event(), set(), []

    def look() -> None:
        """Open the folder and read all files; the result counts only if the folder was not replaced meanwhile."""
        folder = os.open(target, os.O_RDONLY)
        try:
            listed, contents = sorted(os.listdir(folder)), set()  # noqa: PTH208 (lists an open folder)
            try:
                for name in listed:
                    with open(os.open(name, os.O_RDONLY, dir_fd=folder)) as file:  # noqa: PTH123
                        contents.add(file.read())
            except FileNotFoundError:
                contents.add("gone")
            if target.stat().st_ino == os.fstat(folder).st_ino:
                if listed != FILES or len(contents) != 1:
                    wrong.append(f"half full: {listed} {contents}")
                seen.update(contents)
        finally:
            os.close(folder)

    def read() -> None:
        while not done.is_set():
            try:
                look()
            except FileNotFoundError:
                wrong.append("missing")

    with whole_folder(target) as draft:
        fill(draft, 0)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in range(1, versions):
            with whole_folder(target) as draft:
                fill(draft, version)
    finally:
        done.set()
        reader.join()
    return seen, wrong


def test_a_reader_never_finds_the_folder_missing_or_incomplete(tmp_path):
    seen, wrong = replaced_while_read(tmp_path / "target", 200)
    assert wrong == []
    assert len(seen) > 5
    assert names(tmp_path) == ["target"]


def plain_replacement(draft: Path, target: Path) -> None:
    """Replacement in two steps, which ``exchange`` avoids."""
    shutil.rmtree(target)
    shutil.copytree(draft, target)


def test_the_reader_notices_a_replacement_in_two_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "exchange", plain_replacement)
    _, wrong = replaced_while_read(tmp_path / "target", 200)
    assert wrong


@pytest.mark.parametrize("call", ["missing", "refuses"])
def test_without_an_atomic_exchange_the_folder_is_still_replaced(tmp_path, monkeypatch, call):
    library = SimpleNamespace() if call == "missing" else SimpleNamespace(renameat2=lambda *arguments: -1)
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *arguments, **options: library)
    target = tmp_path / "target"
    for version in (1, 2):
        with whole_folder(target) as draft:
            fill(draft, version)
    assert {file.name: file.read_text() for file in target.iterdir()} == dict.fromkeys(FILES, "2")
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("moment", ["filling", "sync", "rename", "exchange"])
@pytest.mark.parametrize("there", [True, False])
def test_a_crash_leaves_the_old_folder(tmp_path, moment, there):
    target = tmp_path / "target"
    if there:
        with whole_folder(target) as draft:
            fill(draft, 1)

    def replace() -> None:
        with whole_folder(target) as draft:
            fill(draft, 2)
            if moment == "filling":
                raise Crash

    with pytest.MonkeyPatch.context() as patch:
        match moment:
            case "sync":
                patch.setattr(os, "fsync", crash)
            case "rename":
                patch.setattr(os, "rename", crash)
            case "exchange":
                patch.setattr(files, "exchange", crash)
        if moment == "exchange" and not there:
            replace()  # a new folder needs no exchange
            assert (target / "0").read_text() == "2"
            return
        with pytest.raises(Crash):
            replace()
    assert names(tmp_path) == (["target"] if there else [])
    if there:
        assert {file.name: file.read_text() for file in target.iterdir()} == dict.fromkeys(FILES, "1")


def test_a_file_at_the_target_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "target").write_text("mine")
    with pytest.raises(NotADirectoryError), whole_folder(tmp_path / "target") as draft:
        fill(draft, 1)
    assert (tmp_path / "target").read_text() == "mine"
    assert names(tmp_path) == ["target"]
