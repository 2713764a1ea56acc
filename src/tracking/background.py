"""Performing the actions of a tracker in a thread of their own, so that a slow network delays nothing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

WAITING = 1000
"""Largest number of actions that wait for those before them."""


class Background:
    """Performs actions one after the other, in a thread of its own that ends with the process."""

    def __init__(self) -> None:
        self._actions: queue.Queue[Callable[[], object] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def add(self, action: Callable[[], object] | None) -> bool:
        """Perform an action, which must not raise, after all others; ``None`` ends the thread.

        Returns False if too many wait: then it is not performed.
        """
        try:
            self._actions.put_nowait(action)
        except queue.Full:
            return False
        return True

    def finish(self, seconds: float) -> bool:
        """Wait for all actions, at most ``seconds``. Returns whether they were performed."""
        if not self.add(None):
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (action := self._actions.get()) is not None:
            action()
