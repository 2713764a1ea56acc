"""Stopping on request: a signal is remembered until the loop is at a place where nothing is lost."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class Stopped(Exception):  # noqa: N818 (it is no error)
    """A signal asked the run to stop; ``code`` is the exit code that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class StopRequest:
    """While open, remembers SIGINT and SIGTERM in ``requested``. A second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested: Stopped | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.requested = Stopped(number)

    def check(self) -> None:
        """Raise ``Stopped`` if a signal has come."""
        if self.requested is not None:
            raise self.requested
