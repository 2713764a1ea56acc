"""Graceful stop on a signal: it is stored until the loop can stop without losing work."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C, a polite kill, Slurm's warning before the time limit, a closed terminal."""


class Stopped(Exception):  # noqa: N818 (a request, not an error)
    """Raised to stop a run after a signal. ``code`` is the exit code, 128 + signal number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number

    def __reduce__(self) -> tuple[Any, ...]:
        return Stopped, (self.code - 128,)  # pickled to tell other processes


class StopRequest:
    """Context manager that stores one of ``SIGNALS`` in ``requested``. A second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested: Stopped | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
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
        """Raise ``Stopped`` if a signal was received."""
        if self.requested is not None:
            raise self.requested
