"""Faults of a vLLM server: its process is killed in the middle of a run, and comes back without adapters."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from src.models.settings import EMBEDDED
from tests.chaos.faults import Place, compared
from tests.chaos.victims import at, begin, start
from tests.helpers.fake_vllm import FakeVLLM

PAUSE = 0.5
"""Seconds after which a killed server is started again."""

PATIENCE = 60.0
"""Seconds until a started server must answer."""


class Server:
    """A vLLM server (a small imitation) with the embedded model, in a process of its own.

    A context manager. A second process starts the server again when it was killed; ``record`` holds the process number
    of each start, one a line.
    """

    def __init__(self, record: Path) -> None:
        self.record = record
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @property
    def overrides(self) -> tuple[str, ...]:
        """Settings of a run that generates with this server."""
        return "engine=vllm-server", f"engine.urls=[http://127.0.0.1:{self.port}]", "engine.patience=60"

    @property
    def started(self) -> list[int]:
        """Process numbers of all starts, the running one last."""
        return [int(line) for line in self.record.read_text().split()]

    def __enter__(self) -> Self:
        self.record.touch()
        self.keeper = os.fork()
        if not self.keeper:
            self._keep(os.getppid())
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > end:
                raise RuntimeError(f"the server did not start in {PATIENCE:.0f} s")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self.keeper, signal.SIGTERM)
        os.waitpid(self.keeper, 0)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _keep(self, parent: int) -> NoReturn:
        """Run the server again and again, until this process is told to stop or its parent has ended."""
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        while not stopped and os.getppid() == parent:
            server = os.fork()
            if not server:
                self._serve(os.getppid())
            with self.record.open("a") as file:
                file.write(f"{server}\n")
            while not os.waitpid(server, os.WNOHANG)[0]:
                if stopped or os.getppid() != parent:
                    os.kill(server, signal.SIGKILL)
                time.sleep(0.02)
            time.sleep(PAUSE)
        os._exit(0)

    def _serve(self, parent: int) -> NoReturn:
        FakeVLLM(EMBEDDED / "tiny", port=self.port, context=2048)
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)


def server_killed(place: Place, server: Server) -> str:
    """SIGKILL to the server at a random moment of a random rollout; it is started again."""
    place.fresh()
    before, seconds = len(server.started), place.seconds["rollout"]
    entry = place.rng.randint(1, len(seconds))
    fault = at("rollout", entry, _kill(server, place.rng.uniform(0, seconds[entry - 1])))
    ended = start(begin(place.run, *place.overrides), place.log, fault)
    if ended.code:
        return f"exit code {ended.code}"
    if len(server.started) == before:
        return "the server was not killed"
    return compared(place.run, place)


def _kill(server: Server, delay: float) -> Callable[[], None]:
    def kill() -> None:
        time.sleep(delay)
        os.kill(server.started[-1], signal.SIGKILL)

    return lambda: threading.Thread(target=kill, daemon=True).start()
