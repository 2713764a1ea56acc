"""Graceful stop on a signal or a time limit: it is stored until the loop can stop without losing work."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C, a polite kill, Slurm's warning before the time limit, a closed terminal."""


TIME_LIMIT = 124
"""Exit code after the time limit, as of timeout(1)."""


class Stopped(Exception):  # noqa: N818 (a request, not an error)
    """Raised to stop a run. ``code`` is the exit code: 128 + signal number, or ``TIME_LIMIT``."""

    def __init__(self, number: int | None) -> None:
        """``number`` is that of a signal; ``None`` stands for the time limit."""
        super().__init__("stopped by the time limit" if number is None else f"stopped by {signal.Signals(number).name}")
        self.code = TIME_LIMIT if number is None else 128 + number

    def __reduce__(self) -> tuple[Any, ...]:
        return Stopped, (None if self.code == TIME_LIMIT else self.code - 128,)  # pickled to tell other processes


class StopRequest:
    """Context manager that stores one of ``SIGNALS`` in ``requested``. A second signal ends the process at once.

    With ``minutes``, a stop is also requested when this time has passed since the block was entered.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.requested: Stopped | None = None
        self._signalled = False
        self._timer = None if minutes is None else threading.Timer(60 * minutes, self._expire)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signalled = True
        self.requested = Stopped(number)

    def _expire(self) -> None:
        if self.requested is None:
            self.requested = Stopped(None)

    def check(self) -> None:
        """Raise ``Stopped`` if a stop was requested."""
        if self.requested is not None:
            raise self.requested
