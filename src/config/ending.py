"""Exit codes and one-line messages for errors that the user can fix: no disk space, no memory, invalid input."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from src.errors import causes
from src.types import InputError
from src.utils import checkpoints
from src.utils.services import UnavailableError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would exceed the limit on its size",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
}
"""Errors of writing that the user can mend."""

TEXTS = {
    "PytorchStreamWriter failed writing": "the disk is full",
    "inline_container.cc": "the disk is full",
    **{f"(os error {number})": reason for number, reason in REASONS.items()},
}
"""What torch and safetensors say when they cannot write; their errors carry no number."""


def ended(action: Callable[[], object], directory: Path) -> int:
    """Perform the action of a command. Returns its exit code: 0 done, 1 no room or memory, 2 invalid input.

    Other errors are raised.
    """
    try:
        action()
    except InputError as error:
        return complain(error)
    except (FloatingPointError, UnavailableError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        if saved := checkpoints.steps(directory):
            print(f"Saved before the error: the checkpoint of step {saved[-1]} in {directory}.", file=sys.stderr)
        return 1
    except Exception as error:
        if (reason := _not_written(error)) is not None:
            first = "Make room"
        elif _out_of_memory(error):
            reason, first = "memory ran out", "Free memory"
        else:
            raise
        print(f"stopped: {reason} ({_one_line(error)}).", file=sys.stderr)
        if saved := checkpoints.steps(directory):
            print(f"Saved: the checkpoint of step {saved[-1]}. {first} and continue:", file=sys.stderr)
            print(f"python -m src.train resume={directory}", file=sys.stderr)
        else:
            if first != "Make room":
                first += ", or lower train.micro_batch_tokens or engine.max_batch_tokens,"
            print(f"No checkpoint was saved yet. {first} and run the command again.", file=sys.stderr)
        return 1
    return 0


def interrupted() -> int:
    """Say that Ctrl-C stopped a command. Returns the exit code."""
    print("\nstopped by SIGINT; finished files are complete. Run the same command again to continue.", file=sys.stderr)
    return INTERRUPTED


def complain(error: Exception, outcome: str = "") -> int:
    """Print an error's messages, one per line, below their count and ``outcome``. Returns exit code 2."""
    problems = error.problems if isinstance(error, InputError) else (str(error),)
    counted = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found"
    print(f"{counted}{', ' if outcome else ''}{outcome}:", file=sys.stderr)
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)
    return 2


def _not_written(error: BaseException) -> str | None:
    """Why a file could not be written, if an error or one of its causes says so."""
    for one in causes(error):
        if isinstance(one, OSError) and one.errno in REASONS:
            return REASONS[one.errno]
        for text, reason in TEXTS.items():
            if text in str(one):
                return reason
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Whether an error or one of its causes says that this process or its device has no memory left.

    Torch is not imported to find out: its error on a device is known by its name, and that of the CPU by its text.
    """
    return any(
        isinstance(one, MemoryError)
        or type(one).__name__ == "OutOfMemoryError"
        or (isinstance(one, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(one))
        for one in causes(error)
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
