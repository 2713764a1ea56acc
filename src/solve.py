"""Answer questions and print every round as it is generated: ``python -m src.solve question="…" rounds=3``.

Without ``question`` it asks for one after another, or reads them from the standard input, one a line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import config as configuration
from src.types import InputError

if TYPE_CHECKING:
    from src.run import Run
    from src.types import Problem, Turn


def solve(config: configuration.Config[Any], directory: Path) -> str | None:
    """Generate and print one chain of rounds per question (with a search, the accepted one). Returns the last answer.

    Raises:
        InputError: a question is empty or does not fit the context, or there is none.
    """
    from src.utils import checkpoints

    settings = config.settings
    given = settings.question
    if given is not None and not given.strip():
        raise InputError("question is empty; give one with question=…")
    checkpoint = checkpoints.chosen(Path(settings.run), settings.checkpoint) if settings.run is not None else None

    from src.benchmarks.base import Splits
    from src.run import build_run  # heavy: nothing above needs it
    from src.types import Problem
    from src.utils.environment import set_threads

    set_threads(settings.threads)
    known = [] if given is None else [Problem("question", given, "")]
    run = build_run(config, directory, checkpoint, Splits([], [], {"question": known}), settings.model.context)
    if given is not None:
        return answer(run, known[0])
    last, none = None, True
    for line in asked():
        none = False
        problem = Problem("question", line, "")
        try:
            settings.rounds.check_problem(problem, run.codec)
            last = answer(run, problem)
        except InputError as error:
            if not sys.stdin.isatty():
                raise
            print(error)
    if none:
        raise InputError("there is no question; give one with question=…, or one a line on the standard input")
    return last


def asked() -> Iterator[str]:
    """Questions as they are typed, until an empty line or the end of the input; piped ones, until the end."""
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401  (lets the line be edited)

        print("One question a line; an empty line ends.")
    while True:
        try:
            line = input("\nquestion: " if typed else "").strip()
        except EOFError:
            return
        if line:
            if not typed:
                print(f"\nquestion: {line}")
            yield line
        elif typed:
            return


def answer(run: Run, problem: Problem) -> str | None:
    """Generate and print the rounds for one problem. Returns the stated answer."""
    from src.evaluation.sampling import accepted
    from src.rounds.growing import grow
    from src.types import Status
    from src.verifiers.tags import stated_answer

    settings = run.settings
    chain = settings.rounds.independent(settings.rounds.n, 1, settings.temperature, settings.top_p)
    writer = Writer(run, settings.rounds.n)
    streams = not chain.joins  # candidates and drafts are generated in parallel: only accepted turns are printed
    on_token = writer.token if streams else None
    rollout = grow(run.engine, chain, [problem], run.codec, (settings.seed, "solve"), on_token=on_token)[0]
    turns = accepted(rollout)
    if not streams:
        for turn in turns:
            writer.turn(turn)
    if turns[-1].status == Status.TRUNCATED:
        print("\n  (reached its token budget)")
    stated = stated_answer(turns[-1].said)
    print(f"\nanswer: {stated if stated is not None else 'none stated'}")
    return stated


class Writer:
    """Prints turns, either token by token or as a whole."""

    def __init__(self, run: Run, rounds: int) -> None:
        self.run, self.rounds = run, rounds
        self.shown: dict[Any, list[int]] = {}

    def token(self, turn: Turn, token: int) -> None:
        """Print the text that a new token adds to its turn."""
        codec = self.run.codec
        if turn.path not in self.shown:
            self.shown[turn.path] = []
            self._head(turn)
        before = codec.decode(self.shown[turn.path])
        self.shown[turn.path].append(token)
        print(codec.decode(self.shown[turn.path])[len(before) :], end="", flush=True)
        if token in self.run.policy.end_tokens:
            print()

    def turn(self, turn: Turn) -> None:
        """Print a finished turn."""
        self._head(turn)
        print(turn.text)

    def _head(self, turn: Turn) -> None:
        if turn.carried:
            print(f"  carried{' (cut)' if turn.carried_cut else ''}: {turn.carried}")
        print(f"\nround {turn.round} of {self.rounds}")


def quoted(argument: str) -> str:
    """Quote ``question=<any text>`` for Hydra's grammar. Text that is already quoted stays unchanged."""
    key, _, text = argument.partition("=")
    whole = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in re.sub(r"\\.", "", text[1:-1])
    if key != "question" or whole:
        return argument
    # A backslash is an escape only before a quote or an interpolation, and at the end.
    escaped = re.sub(r"(\\*)('|\$\{)", r"\1\1\\\2", text)
    escaped += "\\" * (len(text) - len(text.rstrip("\\")))
    return f"question='{escaped}'"


def job(config: configuration.Config[Any], directory: Path) -> None:
    """Answer the questions of one job."""
    solve(config, directory)


if __name__ == "__main__":
    sys.exit(configuration.launch("solve", job, [quoted(argument) for argument in sys.argv[1:]]))
