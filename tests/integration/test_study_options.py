"""Studies with options from ``--config-dir``: they compose, and the processes of their jobs find the options too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src import config as configuration
from src.config import CONF
from src.config.composing import FOLDERS
from src.rounds.carry.history import History
from src.studies import running
from src.study import arguments, study
from src.types import InputError

PLAN = {
    "_target_": "src.studies.settings.Study",
    "question": "Does it find my options?",
    "common": ["debug=smoke"],
    "runs": {"a": ["rounds=3", "rounds/carry=ends2"]},
    "warmups": {"warm": ["model=tiny", "rounds=3", "rounds/carry=ends2"]},
    "evaluations": {"more": {"overrides": ["rounds/carry=ends2"]}},
    "seeds": [0],
}


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A folder with a study, and with an option that its jobs use."""
    folder = tmp_path / "mine"
    for name, text in (
        ("study/q.yaml", json.dumps(PLAN)),  # JSON is YAML
        ("rounds/carry/ends2.yaml", (CONF / "rounds" / "carry" / "history.yaml").read_text()),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    yield folder
    del FOLDERS[1:]


class Ended:
    """A process that has failed."""

    def poll(self) -> int:
        return 1


def launched(*given: str) -> int:
    return configuration.launch("study", study, arguments(given))


def test_jobs_find_the_options_of_their_study(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def popen(command: list[str], **options: Any) -> Ended:
        commands.append(command)
        return Ended()

    monkeypatch.setattr(running, "POLL", 0)
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(running, "_starts_from", lambda job, other: False)  # no job is given up after a failed one
    with pytest.raises(SystemExit, match="1"):
        launched("q", "--config-dir", str(mine), f"root={tmp_path / 'root'}")
    assert [command[2] for command in commands] == ["src.warmup", "src.train", "src.evaluate"]
    for command in commands:
        assert command[3:5] == ["--config-dir", str(mine)]


def test_a_trial_finds_the_options_of_its_study(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 2, "", "stopped here")

    monkeypatch.setattr(subprocess, "run", run)
    assert launched("q", "--config-dir", str(mine), f"root={tmp_path / 'root'}", "--estimate") == 2
    assert "stopped here" in capfd.readouterr().err
    assert commands[0][2:5] == ["src.train", "--config-dir", str(mine)]
    assert launched("q", "--config-dir", str(mine), f"root={tmp_path / 'root'}", "--estimate", "device=H200") == 0


def test_an_evaluation_of_a_run_finds_own_options(mine: Path, small_run: Path) -> None:
    FOLDERS.append(mine)
    found = configuration.overlay("evaluate", [f"run={small_run}", "rounds/carry=ends2"])
    assert found.settings.rounds.carry == History()


def test_own_options_are_known_beside_a_mistake(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = ["--config-dir", str(mine), "debug=smoke", "rounds/carry=ends2", "train.stepps=3"]
    assert configuration.launch("train", lambda config, directory: None, given) == 2
    said = capfd.readouterr().err
    assert "train.stepps" in said
    assert "ends2" not in said


def test_options_are_those_of_the_last_command_line(mine: Path) -> None:
    FOLDERS.append(mine)
    assert launched("rounds", "--estimate", "device=abacus") == 2
    assert FOLDERS == [CONF]
    with pytest.raises(InputError, match="rounds/carry has no option 'ends2'"):
        configuration.compose("train", ["debug=smoke", "rounds/carry=ends2"])
