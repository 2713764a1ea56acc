"""Faults of the processes that judge answers: they are killed, or have no memory."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from src.training.trainer import Trainer
from src.verifiers.equivalence import Equivalence
from src.verifiers.sandbox import _ALIVE, IsolatedVerifier
from tests.chaos.faults import Place
from tests.chaos.table import SURVIVED
from tests.chaos.victims import begin, differing, results, start


def greedy() -> Callable[..., float]:
    """A verifier that needs a gigabyte for each verdict."""
    return lambda gold, answer, tolerance: float(len(bytearray(2**30)) > 0)


def judge_out_of_memory(place: Place) -> str:
    """Every verdict needs more memory than it may use: none is given, all are counted, and the run finishes."""
    place.fresh()

    def fault() -> None:
        def judged(self: Equivalence, gold: str, answer: str, tolerance: float) -> float:
            return self.verifier(gold, answer, tolerance)

        Equivalence._judge = judged  # type: ignore[method-assign]
        Equivalence.verifier = property(lambda self: judge)  # type: ignore[assignment]
        judge = IsolatedVerifier(greedy, (), 2.0, 64)

    ended = start(begin(place.run, "verifier=math"), place.log, fault)
    if ended.code or "Traceback" in ended.output:
        return f"exit code {ended.code}"
    failures = json.loads((place.run / "summary.json").read_text())["verifier_failures"]
    return SURVIVED if failures else "no verdict was missing"


def judge_killed(place: Place, entry: int) -> str:
    """The process that judges answers is killed before the answers of a step are judged."""
    place.fresh()

    def fault() -> None:
        score, count = Trainer.score, [0]

        def killing(self: Trainer, rollouts: Any) -> Any:
            count[0] += 1
            for judge in list(_ALIVE) if count[0] == entry else []:
                for worker in judge._idle:
                    os.kill(worker.pid, signal.SIGKILL)
                if judge._fork_server is not None:
                    judge._fork_server.kill()
            return score(self, rollouts)

        Trainer.score = killing  # type: ignore[method-assign]

    whole, hurt = place.folder / "whole", place.run
    for run, how in ((whole, lambda: None), (hurt, fault)):
        if (ended := start(begin(run, "verifier=math"), place.log, how)).code:
            return f"exit code {ended.code}"
    names = differing(hurt, results(whole))
    return f"other {', '.join(names)}" if names else SURVIVED
