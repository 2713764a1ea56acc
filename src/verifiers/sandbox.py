"""Judging answers that a model wrote, with verifiers that nobody hardened.

A verifier of unknown making runs in a process of its own, with limits on time and memory. Some evaluate the answer as
an expression, so that process also refuses to write files, start programs or open connections, whatever code asks for
it. What crashes, hangs or grows scores zero and is counted; the process is replaced.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

LONGEST_ANSWER = 2000
"""Characters of a stated answer beyond which it is wrong without being looked at."""

PATIENCE = 5
"""Time on the clock that a verdict may take, as a multiple of its processor time."""

INTERRUPTED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
"""Exit codes of a child that was ended from outside; its own limits end it by other signals."""

HARMLESS = frozenset({"os.listdir", "os.scandir"})  # importing a module lists its folder
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "signal.", "pty.", "tempfile.", "urllib.", "http.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook (PEP 578) of the child: nothing that a verifier runs may reach out of its process."""
    if event.startswith(FORBIDDEN) and event not in HARMLESS:
        raise PermissionError(f"{event} is refused while an answer is judged")
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        raise PermissionError("writing is refused while an answer is judged")


def serve(descriptor: int) -> None:
    """The child: build the verifier once, then answer requests until the connection closes."""
    connection = Connection(descriptor)
    build, arguments, seconds, memory = pickle.loads(connection.recv_bytes())
    judge = build(*arguments)
    sys.addaudithook(_refuse)  # from here on, and for good
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
    connection.send_bytes(b"ready")
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)  # the kernel ends this process then
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds + 1)  # should the parent not be there to do so
        try:
            verdict = float(judge(*request))
        except BaseException:  # SystemExit and MemoryError too: whatever an answer does to a verifier, it is wrong
            verdict = math.nan
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(struct.pack("d", verdict))  # no pickle: what comes out of here is not trusted


class IsolatedVerifier:
    """Calls ``build(*arguments)(*request)`` in a child process; 0 where that raises, or takes more than ``seconds``.

    The limit is on processor time, so that verdicts do not depend on what else the machine does; what only waits is
    ended after ``PATIENCE`` times as long.

    ``build`` must be importable by name. ``failures`` counts the verdicts that were not given. Threads take turns; a
    copy in another process, forked or sent there, starts a child of its own.
    """

    def __init__(
        self,
        build: Callable[..., Callable[..., float]],
        arguments: tuple[Any, ...] = (),
        seconds: float = 2.0,
        memory_mb: int = 1024,
        start_seconds: float = 120.0,
    ) -> None:
        self.build, self.arguments = build, arguments
        self.seconds, self.memory_mb, self.start_seconds = seconds, memory_mb, start_seconds
        self.failures = 0
        self.disown()
        _ALIVE.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return IsolatedVerifier, (self.build, self.arguments, self.seconds, self.memory_mb, self.start_seconds)

    def __call__(self, *request: Any) -> float:
        with self._lock:
            verdict = self._ask(request)
            if verdict is None:  # the child was ended from outside: not the answer's fault
                verdict = self._ask(request)
            if verdict is None or math.isnan(verdict):
                self.failures += 1
                return 0.0
            return verdict

    def _ask(self, request: tuple[Any, ...]) -> float | None:
        """The verdict of the child, NaN where it gives none, ``None`` where somebody else ended the child."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        interrupted = False
        try:
            self._connection.send(request)
            if self._connection.poll(PATIENCE * self.seconds):
                return float(struct.unpack("d", self._connection.recv_bytes())[0])
        except (EOFError, OSError, struct.error):  # the child ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                interrupted = self._process.wait(1.0) in INTERRUPTED
        self._end()
        return None if interrupted else math.nan

    def close(self) -> None:
        """End the child process; the next call starts another."""
        with self._lock:
            self._end()

    def disown(self) -> None:
        """Forget the child process: it is another's."""
        self._lock = threading.Lock()
        self._process: Any = None
        self._connection: Any = None

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()
            self._process = None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; from src.verifiers.sandbox import serve; serve({theirs.fileno()})"
        )
        self._process = subprocess.Popen(  # not multiprocessing: its worker processes may not have children
            [sys.executable, "-c", program],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which decides when to stop
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        try:
            self._connection.send_bytes(
                pickle.dumps((self.build, self.arguments, self.seconds, self.memory_mb * 2**20))
            )
            if not self._connection.poll(self.start_seconds):
                self._end()
                raise RuntimeError(f"the verifier's process did not start within {self.start_seconds:.0f} s")
            self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            # before any answer was seen: not the model's fault, so not a zero
            self._end()
            raise RuntimeError("the verifier's process ended while starting; what it printed says why") from error


_ALIVE: weakref.WeakSet[IsolatedVerifier] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for verifier in list(_ALIVE):
        verifier.close()


def _disown_all() -> None:
    for verifier in list(_ALIVE):
        verifier.disown()


os.register_at_fork(after_in_child=_disown_all)
