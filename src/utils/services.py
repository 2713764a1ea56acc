"""The error about a service outside this process."""

from __future__ import annotations


class UnavailableError(RuntimeError):
    """A service that a run needs, e.g. a server, does not do its part. The message says which one, and why."""
