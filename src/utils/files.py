"""Atomic writes: after a kill at any moment, a file or folder has either its old or its new content."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRAFT = re.compile(r"\..+\.tmp|\.(?:model|best)\.\w{8}(?:\.aside)?")
"""Names of unfinished files and folders in a run directory."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2


def write_text(path: Path, text: str) -> None:
    """Replace the content of ``path`` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # evaluations of a run may write at the same time
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Atomically replace the content of ``path`` by ``value`` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, values: Iterable[Any]) -> None:
    """Atomically replace the content of ``path`` by one JSON value per line."""
    write_text(path, "".join(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values))


def sync(folder: Path) -> None:
    """Sync the entries of a folder to the disk, so that new and renamed files survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_drafts(folder: Path) -> None:
    """Remove the unfinished files and folders that killed processes left directly in ``folder``."""
    for path in folder.glob(".*") if folder.is_dir() else ():
        if DRAFT.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yield the values of a file with one JSON value per line."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


@contextmanager
def whole_folder(target: Path, keep: bool = False) -> Iterator[Path]:
    """Yield a temporary folder to fill; it becomes ``target`` atomically when the block ends without an error.

    An existing ``target`` is replaced in one step, so that it is complete at any moment. With ``keep``, an existing
    ``target`` stays: of several processes that write the same folder, the first to finish wins.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        draft.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        yield draft
        for path in draft.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        try:
            os.rename(draft, target)  # noqa: PTH104 (expected to fail if target is a folder with files)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not keep:
                exchange(draft, target)  # the draft is now the old folder
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def exchange(one: Path, other: Path) -> None:
    """Exchange two paths atomically with Linux's ``renameat2``, or by three renames where it is unavailable."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        status = renameat2(
            AT_FDCWD, os.fsencode(one.absolute()), AT_FDCWD, os.fsencode(other.absolute()), RENAME_EXCHANGE
        )
        if status == 0:
            return
    aside = one.with_name(f"{one.name}.aside")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)
