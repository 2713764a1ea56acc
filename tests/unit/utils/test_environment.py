"""Memory settings of the process."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys

import pytest

from src.config import ROOT
from src.utils.environment import frozen_objects, recorded_environment


@pytest.mark.parametrize("content", [b"", b'{"threads": 3', b"\xff", b"[]"])
def test_a_damaged_record_of_the_environment_is_said(tmp_path, capsys, content):
    assert recorded_environment(tmp_path) == {}
    (tmp_path / "environment.json").write_text('{"threads": 3}')
    assert recorded_environment(tmp_path) == {"threads": 3}
    assert capsys.readouterr().out == ""
    (tmp_path / "environment.json").write_bytes(content)
    assert recorded_environment(tmp_path) == {}
    assert f"warning: {tmp_path / 'environment.json'} is damaged" in capsys.readouterr().out


TOUCH_TWICE = """
import resource, sys
import numpy as np
from src.utils.environment import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def faults():
    np.ones(2**23)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(-faults() + faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt(3) is glibc's")
def test_freed_memory_is_reused_without_page_faults():
    pages = {
        how: int(subprocess.check_output([sys.executable, "-c", TOUCH_TWICE, how], cwd=ROOT, text=True))
        for how in ("keep", "leave")
    }
    assert pages["keep"] < 20 < pages["leave"]  # "leave" is 32 if the kernel uses pages of 2 MiB


def test_all_objects_are_visited_often_although_the_libraries_hold_many() -> None:
    libraries = [[] for _ in range(300_000)]
    gc.collect()
    with frozen_objects():
        before = gc.get_stats()[2]["collections"]
        for _ in range(20):
            kept = [[] for _ in range(7_000)]
            del kept
        assert gc.get_stats()[2]["collections"] > before
        assert gc.get_freeze_count() >= len(libraries)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(("given", "seen"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_waiting_threads_leave_the_processor_to_others_unless_the_user_says_otherwise(
    given: dict[str, str], seen: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    shown = subprocess.run(
        [sys.executable, "-c", "import src, torch"],
        env={**kept, **given, "OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    if "OMP_WAIT_POLICY" not in shown:
        pytest.skip("this build of torch has another OpenMP")
    assert f"OMP_WAIT_POLICY = '{seen}'" in shown
