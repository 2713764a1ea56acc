"""Flags that show something and run nothing are answered, or refused with a sentence."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from src import config as configuration


@pytest.fixture(autouse=True)
def own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra adds handlers to the root logger, which write to the output of this test."""
    monkeypatch.setattr(logging.root, "handlers", list(logging.root.handlers))
    monkeypatch.setattr(logging.root, "level", logging.root.level)


def answer(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str) -> int:
    """The exit code of a command line."""

    def task(config: Any, directory: Path) -> None:
        raise AssertionError("nothing may run")

    monkeypatch.setattr(sys, "argv", [f"src.{command}", *arguments])
    try:
        return configuration.launch(command, task)
    except SystemExit as ended:  # Hydra ends the process after its help
        return int(ended.code or 0)


REFUSED = [
    (["-m", "--cfg", "job"], "--multirun --cfg: a command does one of these; leave --multirun out"),
    (["-m", "seed=1,2", "--info", "defaults"], "--multirun --info: a command does one of these"),
    (["-m", "--info"], "--multirun --info"),
    (["--run", "--multirun"], "--run --multirun"),
    (["--cfg", "job", "--info", "config"], "--cfg --info"),
    (["-m", "--shell-completion", "query=bash"], "--multirun --shell-completion"),
    (["-m", "--help", "nonsense=1,2", "rounds=["], "cannot be parsed"),
    (["--help", "seed=1,2"], "several values, where one run takes one"),
    (["--resolve"], "--resolve belongs to --cfg or --help"),
    (["--package", "rounds"], "--package belongs to --cfg"),
    (["--cfg", "job", "--package", "nothing"], "--package=nothing: there is no such section"),
    (["--cfg", "job", "--resolve", "seed=${nowhere}"], "--cfg job: Interpolation key 'nowhere' not found"),
    (["--config-name", "evaluate"], "--config-name is not taken: each command has one configuration"),
    (["--config-path", "elsewhere", "--cfg", "job"], "--config-path is not taken"),
    (["--experimental-rerun", "config.pickle"], "--experimental-rerun is not taken"),
    (["--config-dir", "nowhere"], "--config-dir=nowhere: no such folder"),
    (["--shell-completion"], "--shell-completion takes one of install=bash, install=zsh"),
    (["--shell-completion", "query=bash"], "--shell-completion takes one of"),
    (["--shell-completion", "install=cmd"], "--shell-completion takes one of"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_what_cannot_be_shown_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert answer(monkeypatch, "train", *arguments) == 2
    output = capfd.readouterr()
    assert said in output.err
    assert "Traceback" not in output.out + output.err


SHOWN = [
    ("pretrain", ["-m", "--help", "seed=1,2", "threads=3"], "threads: 3"),
    ("train", ["--cfg", "job", "--resolve", "--package", "rounds"], "context: 512"),
    ("pretrain", ["--cfg", "all", "--package", "hydra.run"], "dir: "),
    ("pretrain", ["--info", "defaults"], "benchmark/chain-sum"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "said"), SHOWN, ids=[f"{command} {' '.join(arguments)}" for command, arguments, _ in SHOWN]
)
def test_what_can_be_shown_is_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str, arguments: list[str], said: str
) -> None:
    assert answer(monkeypatch, command, *arguments) == 0
    output = capfd.readouterr()
    assert said in output.out
    assert "Traceback" not in output.out + output.err
