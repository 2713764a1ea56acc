"""Verdicts of verifiers that nobody trusts."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.verifiers.sandbox import IsolatedVerifier


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
def test_a_misbehaving_verdict_is_a_zero_and_the_next_one_works(
    verifier: IsolatedVerifier, tmp_path: Path, answer: str
) -> None:
    kept, made = tmp_path / "kept", tmp_path / "made"
    kept.write_text("x")
    assert verifier("7", "") == 1.0
    failures, begin = verifier.failures, time.perf_counter()
    assert verifier(answer, str(kept if answer == "remove" else made)) == 0.0
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
