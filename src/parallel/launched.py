"""Starting and ending the processes of a run that a launcher started (torchrun, accelerate, or a script of one's own).

Process 0 reads the command line and calls the others for every job; they do not print.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from src.errors import causes
from src.parallel.lifeline import Lifeline, connected
from src.parallel.processes import Call, LostProcess, Processes, Superseded, sendable
from src.parallel.settings import launched
from src.rounds.growing import ALONE, Result, World

WAIT = timedelta(hours=6)
"""Longest wait for another process in an exchange. It is long because a process may wait for a slow one; a process that
has ended is noticed at once."""

FOLLOWED = 15.0
"""Seconds that a process waits for process 0 to end it, after the exchange between them failed."""

ENTANGLED = (
    "the job before failed in one process while others were exchanging tensors with it, so no other job can begin; run "
    "the same command again"
)
"""Message of process 0 when it cannot go on with a sweep."""

_now: dict[str, Any] = {}  # the world and the lifeline of this process, once started; whether it is entangled


def world() -> World:
    """Return the processes of this run. The first call connects them."""
    if launched() == 1:
        return ALONE
    if not _now:
        import torch
        import torch.distributed as dist

        rank = int(os.environ["RANK"])
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=WAIT)
        processes = Processes(rank, launched())
        lifeline = connected(rank, processes.size, os.environ.get("MASTER_ADDR", "127.0.0.1"), processes.gather)
        lifeline.watch()
        _now.update(world=processes, lifeline=lifeline)
    found: World = _now["world"]
    return found


def run(lead: Callable[[], int], task: Callable[[Any, Path], Any]) -> int:
    """Run a command: ``lead`` in process 0, and in the others ``task`` whenever process 0 calls. Returns the exit code.

    An error that all processes raise is reported by process 0 only.
    """
    processes = world()
    if not isinstance(processes, Processes):
        return lead()
    if not processes.leads:
        return _follow(processes, task)
    lifeline: Lifeline = _now["lifeline"]
    code = 1
    try:
        code = lead()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        raise
    finally:
        lifeline.end(code)
        if _now.get("entangled"):
            atexit.register(_leave, code)
    return code


def _leave(code: int) -> None:
    """End this process before the interpreter frees its objects, when threads of a broken exchange would abort it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _follow(processes: Processes, task: Callable[[Any, Path], Any]) -> int:
    """Run the tasks that process 0 calls for, until it ends this process. Returns after an error of this process.

    An error of one task is raised in the processes that are still at it; then this process waits for the next task.
    """
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (process 0 prints)
    logging.disable(logging.WARNING)
    call: Call | None = None
    ended: Exception = RuntimeError("no job has begun")
    while True:
        config = None
        try:
            config, directory = (call or processes.wait(ended)).job
            call, ended = None, RuntimeError(f"process {processes.rank} has ended this job")
            processes.raised = None
            task(config, directory)
        except LostProcess:
            time.sleep(FOLLOWED)  # the lifeline ends this process, with the exit code of process 0
            return 1
        except KeyboardInterrupt:
            return 130
        except SystemExit:  # a stop of all processes
            pass
        except Superseded as superseded:
            call = superseded.call
        except Exception as error:
            if config is None or _entangled(processes, config, error):
                traceback.print_exc()
                atexit.register(_leave, 1)
                return 1
            ended = pickle.loads(pickle.dumps(sendable(error, processes.rank)))  # a traceback would hold the weights
        gc.collect()


def call(task: Callable[[Any, Path], Result], config: Any, directory: Path) -> Result:
    """Run a task in all processes; called by process 0, or by a single process. Returns its own result.

    Raises:
        SystemExit: the task before has failed in such a way that the other processes cannot begin another one.
    """
    processes = world()
    if not isinstance(processes, Processes):
        return task(config, directory)
    if _now.get("entangled"):
        raise SystemExit(ENTANGLED)
    processes.raised = None
    processes.call((config, directory.resolve()))
    try:
        return task(config, directory)
    except Exception as error:
        _now["entangled"] = _entangled(processes, config, error)
        raise


def _entangled(processes: Processes, config: Any, error: Exception) -> bool:
    """Whether other processes may wait for this one in an exchange that only its end can break off.

    Exchanges of tensors (sums of gradients, passes of sharded weights) cannot carry the error of one process.
    """
    shared = processes.raised is not None and any(one is processes.raised for one in causes(error))
    return (processes.summing or config.settings.parallel.shards > 1) and not shared
