"""Connections between processes that tell at once when one of them has ended.

``torch.distributed`` notices a dead process only in the next exchange, which may be minutes away. So every process
holds a connection to process 0, which the operating system closes when either of them ends, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

GRACE = 10.0
"""Seconds that a process gets to end by itself, e.g. to close its files, after another one has ended unexpectedly."""

LOST = "a process of this run ended unexpectedly; the others stop too. Continue from the newest checkpoint with resume="
"""Message of process 0 in this case."""


@dataclass
class Lifeline:
    """The connections of one process: from process 0 to all others, or from another one to process 0."""

    connections: list[socket.socket]
    leads: bool
    closing: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Watch all connections in the background. The threads end with the process."""
        for connection in self.connections:
            threading.Thread(target=self._watch, args=[connection], daemon=True).start()

    def end(self, code: int) -> None:
        """End the other processes with exit code ``code``; called by process 0 when it is about to end."""
        self.closing.set()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # it has ended already
                connection.sendall(bytes([code & 255]))

    def _watch(self, connection: socket.socket) -> None:
        try:
            word = connection.recv(1)
        except OSError:
            word = b""
        if self.closing.is_set():
            return
        if word:  # process 0 ends the run
            sys.stderr.flush()
            os._exit(word[0])
        time.sleep(GRACE)
        if self.leads and not self.closing.is_set():
            sys.stderr.write(f"{LOST}\n")
            sys.stderr.flush()
        os._exit(1)


def connected(rank: int, size: int, host: str, exchange: Callable[[Any], list[Any]]) -> Lifeline:
    """Connect the processes. ``exchange`` gathers a value from every process, by rank."""
    if rank == 0:
        server = socket.create_server(("", 0), backlog=size)
        exchange(server.getsockname()[1])
        server.settimeout(60)
        connections = [server.accept()[0] for _ in range(size - 1)]
        server.close()
    else:
        port = exchange(None)[0]
        connections = [socket.create_connection((host, port), timeout=60)]
    for connection in connections:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Lifeline(connections, rank == 0)
