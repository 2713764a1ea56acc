"""Sandbox: runs a verifier on untrusted model text in separate processes, with limits on time and memory.

The verifier may be third-party code (``src.verifiers.sandbox_worker``). An answer that makes it crash, hang or exhaust
its memory gets no verdict, and the next answer gets a new process.
"""

from __future__ import annotations

import atexit
import math
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from src.verifiers.sandbox_worker import COMMAND, FORK, KILL, PATIENCE, REPLY, WAIT

LONGEST_ANSWER = 2000
"""Characters of a stated answer beyond which it is wrong without being looked at."""

BRIEFEST = 0.06
"""Seconds that a verdict may take at least, however many before it ran out of time."""

RECOVERY = 0.01
"""Share of the full limit that a verdict given in time adds to the limit of the next ones."""

TRIES = 3
"""Times that a verdict is asked for whose process was ended from outside."""

INTERRUPTED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
"""Exit codes of a worker that was ended from outside; its own limits end it by other signals."""


class InterruptedVerdictError(Exception):
    """No verdict for a temporary reason: the worker was killed from outside ``TRIES`` times, or earlier slow answers
    had shortened the time limit. The answer may be judged again."""


@dataclass
class _Worker:
    """A process that judges, and the connection to it."""

    pid: int
    connection: Connection


class IsolatedVerifier:
    """Calls ``build(*arguments)(*request)`` in another process; NaN where that raises or exceeds its limits.

    The limit of ``seconds`` is on processor time, so that verdicts do not depend on what else the machine does; what
    only waits is ended after ``PATIENCE`` times as long. Answers that run out of time are rare unless a model has
    learned to write them. Each one therefore cuts the limit of the verdicts after it to a quarter, down to
    ``BRIEFEST``, and each verdict in time raises it again.

    ``build`` must be importable by name. ``failures`` counts the verdicts that were not given. Threads are served side
    by side, each by a worker of its own; a copy in another process, forked or sent there, starts its own workers.

    Raises:
        InterruptedVerdictError: the worker was killed ``TRIES`` times, or a limit below ``seconds`` ran out.
        RuntimeError: the verifier cannot be built.
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
        self.limit = seconds
        self.failures = 0
        self.disown()
        _ALIVE.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return IsolatedVerifier, (self.build, self.arguments, self.seconds, self.memory_mb, self.start_seconds)

    def __call__(self, *request: Any) -> float:
        for _ in range(TRIES):
            verdict = self._ask(request)
            if verdict is not None:
                break
        else:
            raise InterruptedVerdictError(f"the process that judges was ended from outside, {TRIES} times")
        with self._lock:
            self.failures += math.isnan(verdict)
        return verdict

    def _ask(self, request: tuple[Any, ...]) -> float | None:
        """The verdict of a worker, NaN where it gives none, ``None`` where somebody else ended the worker."""
        with self._lock:
            limit = self.limit
            worker = self._idle.pop() if self._idle else self._fork()
        command = KILL
        try:
            worker.connection.send((limit, request))
            if worker.connection.poll(PATIENCE * limit + 1):
                verdict = float(struct.unpack("d", worker.connection.recv_bytes())[0])
                with self._lock:
                    self._idle.append(worker)
                    self.limit = min(self.seconds, self.limit + RECOVERY * self.seconds)
                return verdict
        except (EOFError, OSError, struct.error):  # the worker ended
            command = WAIT
        with self._lock:
            code = self._end(worker, command)
            if command == WAIT and (code is None or code in INTERRUPTED):
                return None
            if command == KILL or code in (-signal.SIGPROF, -signal.SIGALRM):
                self.limit = max(min(BRIEFEST, self.seconds), min(limit, self.limit) / 4)
                if limit < self.seconds:
                    self.failures += 1
                    raise InterruptedVerdictError(f"no verdict within {limit:.2f} s, after answers that took longer")
        return math.nan

    def close(self) -> None:
        """End all processes; the next call starts others."""
        with self._lock:
            self._close()

    def disown(self) -> None:
        """Forget the processes: they are another's."""
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._fork_server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def _close(self) -> None:
        for worker in self._idle:
            worker.connection.close()  # a worker that waits ends when its connection does
        self._idle = []
        if self._fork_server is not None:
            self._fork_server.kill()
            self._fork_server.wait()
            self._fork_server = None
        if self._control is not None:
            self._control.close()
            self._control = None

    def _fork(self) -> _Worker:
        """A new worker, of a new fork server where there is none."""
        for _ in range(TRIES):
            if self._fork_server is None or self._fork_server.poll() is not None:
                self._close()
                self._start()
            ours, theirs = socket.socketpair()
            pid = self._command(FORK, 0, theirs.fileno())
            theirs.close()
            if pid is not None:
                return _Worker(pid, Connection(ours.detach()))
            ours.close()
            self._close()
        raise InterruptedVerdictError(f"the process that starts judges was ended from outside, {TRIES} times")

    def _end(self, worker: _Worker, command: bytes) -> int | None:
        """The exit code of a worker that ended or is ended now; ``None`` where nobody knows it."""
        worker.connection.close()
        return self._command(command, worker.pid)

    def _command(self, command: bytes, worker: int, *handles: int) -> int | None:
        """The fork server's reply; ``None`` where it is gone."""
        if self._control is None:
            return None
        try:
            socket.send_fds(self._control, [COMMAND.pack(command, worker)], handles)
            reply = self._control.recv(REPLY.size, socket.MSG_WAITALL)
        except OSError:
            return None
        return REPLY.unpack(reply)[0] if len(reply) == REPLY.size else None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; from src.verifiers.sandbox_worker import fork_server; "
            f"fork_server({theirs.fileno()})"
        )
        self._fork_server = subprocess.Popen(  # not multiprocessing: its worker processes may not have children
            [sys.executable, "-c", program],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which decides when to stop
        )
        theirs.close()
        content = pickle.dumps((self.build, self.arguments, self.memory_mb * 2**20))
        ours.settimeout(self.start_seconds)
        try:
            ours.sendall(struct.pack("=I", len(content)) + content)
            ready = len(ours.recv(REPLY.size, socket.MSG_WAITALL)) == REPLY.size
        except TimeoutError as error:
            self._close()
            raise RuntimeError(f"the verifier's process did not start within {self.start_seconds:.0f} s") from error
        except OSError:
            ready = False
        if not ready:
            # before any answer was seen: not the model's fault, so not a zero
            self._close()
            raise RuntimeError("the verifier's process ended while starting; what it printed says why")
        ours.settimeout(None)
        self._control = ours


_ALIVE: weakref.WeakSet[IsolatedVerifier] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for verifier in list(_ALIVE):
        verifier.close()


def _disown_all() -> None:
    for verifier in list(_ALIVE):
        verifier.disown()


os.register_at_fork(after_in_child=_disown_all)
