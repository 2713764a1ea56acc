"""Verdicts of verifiers that nobody trusts."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.verifiers.sandbox import InterruptedVerdictError, IsolatedVerifier


def build(right: str) -> Callable[[str, str], float]:
    """A verifier that does what the answer says."""

    def judge(answer: str, place: str) -> float:
        match answer:
            case "hang":
                time.sleep(60)
            case "spin":
                while True:
                    pass
            case "raise":
                raise ValueError("no")
            case "exit":
                raise SystemExit(0)
            case "die":
                os._exit(1)
            case "grow":
                return float(len(bytearray(8 * 2**30)))
            case "write":
                Path(place).write_text("x")
            case "run":
                subprocess.run(["touch", place], check=True)
            case "remove":
                Path(place).unlink()
        return float(answer == right)

    return judge


@pytest.fixture(scope="module")
def verifier() -> IsolatedVerifier:
    return IsolatedVerifier(build, ("7",), seconds=1.0, memory_mb=256)


@pytest.mark.parametrize("answer", ["hang", "spin", "raise", "exit", "die", "grow", "write", "run", "remove"])
def test_a_misbehaving_verdict_is_none_and_the_next_one_works(
    verifier: IsolatedVerifier, tmp_path: Path, answer: str
) -> None:
    kept, made = tmp_path / "kept", tmp_path / "made"
    kept.write_text("x")
    assert verifier("7", "") == 1.0
    failures, begin = verifier.failures, time.perf_counter()
    verifier.limit = verifier.seconds  # whatever earlier cases took
    assert math.isnan(verifier(answer, str(kept if answer == "remove" else made)))
    assert time.perf_counter() - begin < 10
    assert verifier.failures == failures + 1
    assert verifier("7", "") == 1.0
    assert verifier("8", "") == 0.0
    assert kept.exists()
    assert not made.exists()


def refuse(right: str) -> Callable[[str], float]:
    raise ImportError("no such verifier")


def test_a_verifier_that_cannot_start_is_an_error_and_no_zero() -> None:
    with pytest.raises(RuntimeError, match="ended while starting"):
        IsolatedVerifier(refuse, ("7",))("7")


def own_process(delay: float) -> Callable[[str], float]:
    """A verifier whose verdict is the id of its process, after a while."""

    def judge(answer: str) -> float:
        if answer == "spin":
            while True:
                pass
        time.sleep(delay)
        return float(os.getpid())

    return judge


def test_a_verdict_whose_process_is_ended_from_outside_is_asked_for_again() -> None:
    verifier = IsolatedVerifier(own_process, (0.5,))
    first = int(verifier("x"))
    killer = threading.Timer(0.2, os.kill, (first, signal.SIGKILL))
    killer.start()
    second = int(verifier("x"))
    assert second not in (0, first)
    assert verifier.failures == 0
    os.kill(verifier._fork_server.pid, signal.SIGKILL)  # type: ignore[union-attr]
    assert int(verifier("x")) == second  # a worker outlives the process that forked it
    os.kill(second, signal.SIGKILL)
    assert verifier("x") > 0
    assert verifier.failures == 0


def test_a_verdict_that_is_interrupted_again_and_again_is_no_verdict() -> None:
    verifier = IsolatedVerifier(own_process, (0.3,))
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.1):
            for child in (
                Path(f"/proc/{verifier._fork_server.pid}/task").glob("*/children") if verifier._fork_server else []
            ):
                for pid in child.read_text().split():
                    os.kill(int(pid), signal.SIGKILL)

    verifier._start()
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(InterruptedVerdictError, match="3 times"):
        verifier("x")
    stop.set()
    killer.join()


def test_threads_are_served_side_by_side() -> None:
    verifier = IsolatedVerifier(own_process, (0.5,))
    verifier("x")
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(verifier("x"))) for _ in range(3)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 3
    assert time.perf_counter() - begin < 1.4  # one after the other takes 1.5 s


def test_answers_that_run_out_of_time_leave_less_time_for_the_next_ones() -> None:
    verifier = IsolatedVerifier(own_process, (0.0,), seconds=0.8)
    limits = []
    assert math.isnan(verifier("spin"))
    for _ in range(5):
        limits.append(verifier.limit)
        with pytest.raises(InterruptedVerdictError, match="no verdict within"):
            verifier("spin")
    assert limits == [0.2, 0.06, 0.06, 0.06, 0.06]
    assert verifier.failures == 6
    for _ in range(100):
        verifier("x")
    assert verifier.limit == 0.8


def test_no_process_outlives_the_verifier() -> None:
    verifier = IsolatedVerifier(own_process, (0.0,))
    worker, fork_server = int(verifier("x")), verifier._fork_server.pid  # type: ignore[union-attr]
    verifier.close()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in (worker, fork_server)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
    assert not Path(f"/proc/{fork_server}").exists()
