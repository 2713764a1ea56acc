"""The lock on a run directory: one process at a time writes to a run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from src.types import InputError

LOCK = ".lock"
"""File of a run directory that its writer holds with flock(2), and that says who the writer is."""

UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of flock(2) on file systems that lack it."""

_HELD: dict[Path, int] = {}  # directories that this process holds, and the process that took them (forks do not)


@dataclass(frozen=True)
class Writer:
    """The process that writes to a run: ``since`` is local time in ISO format."""

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}), since {self.since}"

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended: it ran on this host, which has no process of this number."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it belongs to another user
            return False
        return self.pid == os.getpid()  # left by an earlier process of the same number, as in containers


def this_process() -> Writer:
    """Describe this process."""
    command = shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])
    return Writer(os.getpid(), socket.gethostname(), command, datetime.now().isoformat(" ", "seconds"))


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which is created if necessary. Repeated use in one process is allowed.

    The kernel releases the lock when the process ends, however it ends. The file stays and names the last writer; the
    next one says that it takes over. On file systems without flock(2), the process number decides.

    Raises:
        InputError: another process writes to this run, or the directory cannot be written to.
    """
    place = directory.resolve()
    if _HELD.get(place) == os.getpid():
        yield
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written to ({error.strerror}); name another, or change its permissions"
        ) from error
    try:
        _take(directory, descriptor)
        _HELD[place] = os.getpid()
        try:
            yield
        finally:
            del _HELD[place]
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(directory: Path, descriptor: int) -> None:
    """Lock an open lock file and record this process in it."""
    try:
        for patience in (0.1, 0.2, 0.0):  # another process may be looking whether the run is held
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not patience:
                    raise _refusal(directory, _read(descriptor)) from error
                time.sleep(patience)
        before = _read(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        before = _read(descriptor)
        if before is not None and not before.ended:
            raise _refusal(directory, before, f" If it has ended, remove {directory / LOCK}.") from error
    if before is not None:
        print(f"{directory}: takes over from {before}, which no longer holds this run")
    content = json.dumps(asdict(this_process())).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
    os.fsync(descriptor)


def _refusal(directory: Path, writer: Writer | None, advice: str = "") -> InputError:
    who = str(writer) if writer is not None else "another process"
    return InputError(
        f"{directory}: {who} is writing to this run. Wait for it or stop it, or name another directory.{advice}"
    )


def _read(descriptor: int) -> Writer | None:
    """Read the writer that a lock file names; ``None`` if it names none."""
    try:
        return Writer(**json.loads(os.pread(descriptor, 65536, 0)))
    except (ValueError, TypeError):  # empty, or cut by a full disk
        return None


def refuse_second_writer(directory: Path) -> None:
    """Check that no other process writes to a run directory, without taking its lock.

    Raises:
        InputError: names the process.
    """
    place = directory.resolve()
    if _HELD.get(place) == os.getpid() or not (place / LOCK).is_file():
        return
    descriptor = os.open(place / LOCK, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _refusal(directory, _read(descriptor)) from error
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
