"""Judging answers that a model wrote, with verifiers that nobody hardened.

A verifier of unknown making runs in a process of its own, with limits on time and memory. Some evaluate the answer as
an expression, so that process also refuses to write files, start programs or open connections, whatever code asks for
it. What crashes, hangs or grows scores zero and is counted; the process is replaced.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

LONGEST_ANSWER = 2000
"""Characters of a stated answer beyond which it is wrong without being looked at."""


HARMLESS = frozenset({"os.listdir", "os.scandir"})  # importing a module lists its folder
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "signal.", "pty.", "tempfile.", "urllib.", "http.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook (PEP 578) of the child: nothing that a verifier runs may reach out of its process."""
    if event.startswith(FORBIDDEN) and event not in HARMLESS:
        raise PermissionError(f"{event} is refused while an answer is judged")
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        raise PermissionError("writing is refused while an answer is judged")


def _serve(
    connection: Any, build: Callable[..., Callable[..., float]], arguments: tuple[Any, ...], memory: int
) -> None:
    """The child: build the verifier once, then answer requests until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    judge = build(*arguments)
    sys.addaudithook(_refuse)  # from here on, and for good
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
    connection.send("ready")
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            verdict: float | None = float(judge(*request))
        except BaseException:  # SystemExit and MemoryError too: whatever an answer does to a verifier, it is wrong
            verdict = None
        connection.send(verdict)


class IsolatedVerifier:
    """Calls ``build(*arguments)(*request)`` in a child process; 0 where that raises, or takes more than ``seconds``.

    ``build`` must be importable by name. ``failures`` counts the verdicts that were not given.
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
        self.seconds, self.memory, self.start_seconds = seconds, memory_mb * 2**20, start_seconds
        self.failures = 0
        self._process: Any = None
        self._connection: Any = None
        atexit.register(self.close)

    def __call__(self, *request: Any) -> float:
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._connection.send(request)
            if self._connection.poll(self.seconds):
                verdict = self._connection.recv()
                if verdict is not None:
                    return float(verdict)
            else:
                self.close()
        except (EOFError, BrokenPipeError, ConnectionResetError):  # the child died of this answer
            self.close()
        self.failures += 1
        return 0.0

    def close(self) -> None:
        """End the child process; the next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.build, self.arguments, self.memory), daemon=True)
        process.start()
        self._process = process
        theirs.close()
        try:
            if not self._connection.poll(self.start_seconds):
                raise RuntimeError(f"the verifier's process did not start within {self.start_seconds:.0f} s")
            self._connection.recv()
        except EOFError as error:  # before any answer was seen: not the model's fault, so not a zero
            raise RuntimeError("the verifier's process ended while starting; what it printed says why") from error
