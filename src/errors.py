"""Errors that say where something is wrong and what would be valid."""

from __future__ import annotations

from collections.abc import Iterator


class NumberError(FloatingPointError):
    """A number of a training step is NaN, infinite or no number: that of the turn at ``tree`` and ``path``, if given.

    ``fatal``: the weights themselves are damaged, so that skipping the update would not help."""

    def __init__(self, message: str, tree: int | None = None, path: tuple[int, ...] = (), fatal: bool = False) -> None:
        super().__init__(message)
        self.tree, self.path, self.fatal = tree, path, fatal


class InputError(ValueError):
    """Invalid user input: settings, data or a directory. The message says what would be valid."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the one that it was raised from or while handling, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
