"""The processes that judge: a fork server, which imports the verifier once, and the workers that it forks.

A worker answers requests under limits on time and memory, and may not write files, start programs or open connections.
A worker that an answer brought down is replaced in milliseconds, since a fork imports nothing.
"""

from __future__ import annotations

import math
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 5
"""Time on the clock that a verdict may take, as a multiple of its processor time."""

COMMAND = struct.Struct("=ci")
"""A request to the fork server: FORK with a socket beside it, or WAIT or KILL with the id of a worker."""

REPLY = struct.Struct("=i")
"""The fork server's reply: the id of a new worker, or the exit code of one that ended."""

FORK, WAIT, KILL = b"F", b"W", b"K"

HARMLESS = frozenset({"os.listdir", "os.scandir"})  # importing a module lists its folder
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "signal.", "pty.", "tempfile.", "urllib.", "http.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def fork_server(descriptor: int) -> None:
    """Build the verifier, then fork workers on request until the connection closes."""
    control = socket.socket(fileno=descriptor)
    size = struct.unpack("=I", control.recv(4, socket.MSG_WAITALL))[0]
    build, arguments, memory = pickle.loads(control.recv(size, socket.MSG_WAITALL))
    judge = build(*arguments)
    control.sendall(REPLY.pack(0))
    while True:
        message, handles, _, _ = socket.recv_fds(control, COMMAND.size, 1)
        if len(message) < COMMAND.size:
            return
        command, worker = COMMAND.unpack(message)
        if command == FORK:
            worker = os.fork()
            if worker == 0:
                control.close()
                serve(Connection(handles[0]), judge, memory)
                os._exit(0)
            os.close(handles[0])
            control.sendall(REPLY.pack(worker))
        else:
            control.sendall(REPLY.pack(_exit_code(worker, 0.0 if command == KILL else 1.0)))


def _exit_code(worker: int, seconds: float) -> int:
    """Reap a worker, which is killed if it does not end by itself within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            ended, status = os.waitpid(worker, os.WNOHANG)
        except ChildProcessError:  # of an earlier fork server, which was ended from outside
            return -signal.SIGKILL
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(worker, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        time.sleep(0.002)


def serve(connection: Connection, judge: Callable[..., float], memory: int) -> None:
    """Answer requests, each with its limit in seconds of processor time, until the connection closes."""
    sys.addaudithook(_refuse)  # from here on, and for good
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
    while True:
        try:
            seconds, request = connection.recv()
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


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook (PEP 578) of a worker: nothing that a verifier runs may reach out of its process."""
    if event.startswith(FORBIDDEN) and event not in HARMLESS:
        raise PermissionError(f"{event} is refused while an answer is judged")
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        raise PermissionError("writing is refused while an answer is judged")
