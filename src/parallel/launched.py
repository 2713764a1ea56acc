"""Starting and ending the processes of a run that a launcher started (torchrun, accelerate, or a script of one's own).

Process 0 reads the command line and calls the others for every job; they do not print.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from src.parallel.lifeline import Lifeline, connected
from src.parallel.processes import LostProcess, Processes
from src.parallel.settings import launched
from src.rounds.growing import ALONE, World

WAIT = timedelta(hours=6)
"""Longest wait for another process in an exchange. It is long because a process may wait for a slow one; a process that
has ended is noticed at once."""

FOLLOWED = 15.0
"""Seconds that a process waits for process 0 to end it, after the exchange between them failed."""

_now: dict[str, Any] = {}  # the world and the lifeline of this process, once started


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
    return code


def _follow(processes: Processes, task: Callable[[Any, Path], Any]) -> int:
    """Run the tasks that process 0 calls for, until it ends this process. Returns after an error of this process."""
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (process 0 prints)
    logging.disable(logging.WARNING)
    while True:
        try:
            config, directory = processes.broadcast(None)
            task(config, directory)
        except LostProcess:
            time.sleep(FOLLOWED)  # the lifeline ends this process, with the exit code of process 0
            return 1
        except KeyboardInterrupt:
            return 130
        except (Exception, SystemExit) as error:
            if not isinstance(error, SystemExit) and error is not processes.raised:
                traceback.print_exc()
                return 1


def call(config: Any, directory: Path) -> None:
    """Make the other processes run their task with this configuration and directory."""
    if isinstance(processes := world(), Processes):
        processes.broadcast((config, directory.resolve()))
