"""Two real processes: shared work, summed gradients, errors that all of them raise."""

from __future__ import annotations

import pytest
import torch

from src.parallel import world
from src.parallel.processes import _buckets
from tests.helpers.processes import finish, start

BOTH = """
import torch
from src.parallel import world
from src.types import InputError
from src.utils.signals import Stopped

w = world()
calls = []
def double(items):
    calls.append(list(items))
    return [2 * item for item in items]

assert w.share(range(5), [1.0] * 5, double) == [0, 2, 4, 6, 8]
assert len(calls[0]) in (2, 3)
assert w.share([7], [1.0], double) == [14], "one process has no item"
assert len(calls) == (2 if w.leads else 1)
assert w.agree(lambda: w.rank) == [0, 1]
assert w.lead(lambda: (w.rank, "led")) == (0, "led")
assert w.together(lambda: w.rank) == w.rank
assert w.own([10, 11, 12], [3.0, 1.0, 1.0]) == ([10] if w.leads else [11, 12])

def failing():
    if w.rank == 1:
        raise InputError("bad row", "bad file")

try:
    w.agree(failing)
    raise SystemExit("no error")
except InputError as error:
    assert error.problems == ("bad row", "bad file"), error.problems
    assert "in process 1" in error.__notes__[0] and error is w.raised

class Local(Exception):
    def __init__(self, one, two):
        super().__init__(one)

def unsendable():
    if w.rank == 1:
        raise Local("odd", 2)

try:
    w.together(unsendable)
    raise SystemExit("no error")
except Exception as error:
    assert "odd" in str(error), error

def stopping():
    raise Stopped(15) if w.rank == 1 else ValueError("broken")

try:
    w.agree(stopping)
    raise SystemExit("no error")
except ValueError as error:
    assert str(error) == "broken", "an error goes before a stop"

try:
    w.agree(lambda: (_ for _ in ()).throw(Stopped(10)) if w.rank == 1 else None)
    raise SystemExit("no error")
except Stopped as stop:
    assert stop.code == 138

one, two, unused = (torch.nn.Parameter(torch.zeros(2, dtype=t)) for t in (torch.float32, torch.bfloat16, torch.float32))
def backward():
    if w.rank == 1:  # the other process has no row
        one.grad = torch.tensor([1.0, 2.0])
    two.grad = torch.full((2,), 0.5, dtype=torch.bfloat16)

w.accumulate([one, two, unused], backward)
assert one.grad.tolist() == [1.0, 2.0] and two.grad.tolist() == [1.0, 1.0] and unused.grad is None
assert two.grad.dtype == torch.bfloat16
w.accumulate([unused], lambda: None)
assert unused.grad is None
"""

JOBS = """
import sys
from pathlib import Path
from types import SimpleNamespace
from src import parallel
from src.types import NumberError

def config(name, shards=1):
    return SimpleNamespace(name=name, settings=SimpleNamespace(parallel=SimpleNamespace(shards=shards)))

def fail(text):
    raise ValueError(text)

def task(config, directory):
    w = parallel.world()
    if config.name == "all fail outside of an exchange":
        fail("broken")
    if config.name == f"process {w.rank} fails while the others are in an exchange":
        fail(f"broken in {w.rank}")
    if config.name == "all fail in an exchange, and name the place":
        try:
            w.agree(lambda: fail("broken") if w.rank else None)
        except ValueError as error:
            raise NumberError("step 1: broken") from error
    if config.name == "a stop":
        raise SystemExit(124)
    assert w.agree(lambda: (config.name, w.rank)) == [(config.name, rank) for rank in range(w.size)]
    if config.name == f"process {w.rank} fails after the last exchange":
        fail(f"broken in {w.rank}")
    return config.name

def ends(name, text=None, **settings):
    try:
        assert parallel.call(task, config(name, **settings), Path()) == name and text is None
    except (ValueError, NumberError, SystemExit) as error:
        assert str(error) == text, (name, error)
    assert parallel.call(task, config("well"), Path()) == "well"

def lead():
    ends("all fail outside of an exchange", "broken")
    ends("process 0 fails while the others are in an exchange", "broken in 0")
    ends("process 1 fails while the others are in an exchange", "broken in 1")
    ends("all fail in an exchange, and name the place", "step 1: broken")
    ends("all fail in an exchange, and name the place", "step 1: broken", shards=2)
    ends("a stop", "124")
    ends("process 0 fails after the last exchange", "broken in 0")
    ends("process 1 fails after the last exchange")
    ends("process 0 fails while the others are in an exchange", "broken in 0", shards=2)

sys.exit(parallel.run(lead, task))
"""


def test_two_processes_share_work_and_errors_and_run_a_job_after_one_that_failed() -> None:
    results = finish(start(["-c", BOTH + JOBS]))
    assert [code for code, _, _ in results] == [1, 1], results
    assert "the job before failed in one process while others were exchanging tensors" in results[0][2]
    assert "Traceback" not in "".join(errors for _, _, errors in results)


def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    alone = world()
    assert (alone.rank, alone.size, alone.leads) == (0, 1, True)
    assert alone.share([1, 2], [1.0, 1.0], lambda items: [-item for item in items]) == [-1, -2]
    assert alone.agree(lambda: 3) == [3]


def test_gradients_are_summed_in_buckets_of_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.parallel.processes.BUCKET", 10)
    tensors = [torch.zeros(size) for size in (4, 4, 4, 20, 1)] + [torch.zeros(3, dtype=torch.float64)]
    assert [[one.numel() for one in bucket] for bucket in _buckets(tensors)] == [[4, 4], [4], [20], [1], [3]]
