"""Answer one question and print every round as it is generated: ``python -m src.solve question="…" rounds=3``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import config as configuration
from src.types import InputError

if TYPE_CHECKING:
    from src.types import Turn


def solve(config: configuration.Config[Any], directory: Path) -> str | None:
    """Generate and print one chain of rounds (with a search, the accepted one). Returns the stated answer.

    Raises:
        InputError: the question is empty or does not fit the context.
    """
    from src.benchmarks.base import Splits
    from src.evaluation.loop import accepted
    from src.rounds.growing import grow
    from src.run import build_run
    from src.types import Problem, Status
    from src.utils import checkpoints
    from src.utils.environment import set_threads
    from src.verifiers.tags import stated_answer

    settings = config.settings
    if not settings.question.strip():
        raise InputError("question is empty; give one with question=…")
    set_threads(settings.threads)
    checkpoint = checkpoints.chosen(Path(settings.run), settings.checkpoint) if settings.run is not None else None
    problem = Problem("question", settings.question, "")
    run = build_run(config, directory, checkpoint, Splits([], [], {"question": [problem]}), settings.model.context)
    chain = settings.rounds.independent(settings.rounds.n, 1, settings.temperature, settings.top_p)
    writer = Writer(run, settings.rounds.n)
    streams = chain.search is None  # a search generates candidates in parallel: only the accepted chain is printed
    on_token = writer.token if streams else None
    rollout = grow(run.engine, chain, [problem], run.codec, (settings.seed, "solve"), on_token=on_token)[0]
    turns = accepted(rollout)
    if not streams:
        for turn in turns:
            writer.turn(turn)
    if turns[-1].status == Status.TRUNCATED:
        print("\n  (reached its token budget)")
    answer = stated_answer(turns[-1].said)
    print(f"\nanswer: {answer if answer is not None else 'none stated'}")
    return answer


class Writer:
    """Prints turns, either token by token or as a whole."""

    def __init__(self, run: Any, rounds: int) -> None:
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
    """Answer the question of one job."""
    solve(config, directory)


if __name__ == "__main__":
    sys.exit(configuration.launch("solve", job, [quoted(argument) for argument in sys.argv[1:]]))
