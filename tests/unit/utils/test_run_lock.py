"""One process at a time writes to a run; a lock whose process has ended is taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from src.config import ROOT
from src.types import InputError
from src.utils.run_lock import LOCK, Writer, locked, refuse_second_writer, this_process

HOLD = """
import sys
from pathlib import Path
from src.utils.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_process(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a run until it is told, or killed."""
    command = [sys.executable, "-c", HOLD, str(run)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with other_process(run) as process:
        for attempt in (lambda: locked(run).__enter__(), lambda: refuse_second_writer(run)):
            with pytest.raises(InputError) as refusal:
                attempt()
            text = str(refusal.value)
            assert text.startswith(f"{run}: process {process.pid} on {socket.gethostname()} (")
            assert "-c" in text
            assert "since 2" in text
    with locked(run):
        pass


def test_a_killed_process_leaves_a_lock_that_is_taken_over_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with other_process(tmp_path) as process:
        process.kill()
        process.wait()
        refuse_second_writer(tmp_path)
        with locked(tmp_path):
            assert f"takes over from process {process.pid} on " in capsys.readouterr().out
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    with locked(tmp_path):
        assert capsys.readouterr().out == "", "a lock that was released says nothing"


def test_one_process_may_lock_a_run_repeatedly(tmp_path: Path) -> None:
    with locked(tmp_path):
        with locked(tmp_path / "." / "x" / ".."):
            refuse_second_writer(tmp_path)
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input="\n", timeout=60)
        assert second.returncode == 1
        assert f"process {os.getpid()} on" in second.stderr


def test_a_lock_is_released_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), locked(tmp_path):
        raise ValueError("broken")
    with other_process(tmp_path):
        pass


def test_without_flock_the_process_number_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    refuse_second_writer(tmp_path)
    with locked(tmp_path):
        pass
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / LOCK).write_text(json.dumps({**vars(this_process()), "pid": process.pid}))
        with pytest.raises(InputError, match=f"process {process.pid} on .* If it has ended, remove {tmp_path}/.lock"):
            locked(tmp_path).__enter__()
        process.kill()
    with locked(tmp_path):
        pass
    (tmp_path / LOCK).write_text(json.dumps(vars(Writer(process.pid, "elsewhere", "python", "2020-01-01 00:00:00"))))
    with pytest.raises(InputError, match="on elsewhere"):
        locked(tmp_path).__enter__()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 1}', "\x00"])
def test_a_cut_lock_file_does_not_matter(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="run: cannot be written to"):
        locked(tmp_path / "file" / "run").__enter__()
