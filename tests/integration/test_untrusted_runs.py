"""Run directories of strangers: what is planted in their configuration never runs, whichever command reads them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

import src.evaluate
import src.export
import src.report
import src.solve
import src.train
from src import config as configuration
from src.config import compose

COMMANDS = ("train", "evaluate", "solve", "export", "report")

PLANTED: dict[str, dict[str, Any]] = {
    "optimizer": {"optimizer": {"_target_": "stranger.Planted"}},
    "algorithm": {"algorithm": {"_target_": "stranger.Planted"}},
    "nested": {"rounds": {"carry": {"_target_": "stranger.Planted"}}},
    "reward term": {"reward": {"terms": {"planted": {"_target_": "stranger.Planted"}}}},
    "verifier": {"verifier": {"_target_": "stranger.Planted"}},
    "function": {"verifier": {"_target_": "src.verifiers.function.Function", "function": "stranger.planted"}},
    "also, a section": {"evaluation": {"also": [{"_target_": "stranger.Planted"}]}},
    "also, a name": {"evaluation": {"also": ["stranger.Planted"]}},
    "also, an interpolation": {"planted": "stranger.Planted", "evaluation": {"also": ["${planted}"]}},
    "also, a list elsewhere": {"planted": ["stranger.Planted"], "evaluation": {"also": "${planted}"}},
}


def launch(command: str, run: Path, monkeypatch: pytest.MonkeyPatch, out: Path) -> int:
    if command == "train":
        monkeypatch.setattr(sys, "argv", ["src.train", f"resume={run}"])
        return src.train.main()
    task, arguments = {
        "evaluate": (src.evaluate.job, [f"run={run}"]),
        "solve": (src.solve.job, [f"run={run}", "question=2+2"]),
        "export": (src.export.export, [f"run={run}", f"out={out}"]),
        "report": (src.report.report, [f"runs=[{run}]", f"out={out}"]),
    }[command]
    return configuration.launch(command, task, arguments)


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the module ``stranger``, which Python can import, writes when it is imported."""
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return tmp_path / "ran"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("planted", PLANTED)
def test_planted_code_never_runs_and_is_named(
    command: str,
    planted: str,
    mark: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    node = OmegaConf.create(OmegaConf.to_container(compose("train").node, resolve=False))
    OmegaConf.set_struct(node, False)
    values = OmegaConf.to_container(OmegaConf.merge(node, PLANTED[planted]), resolve=False)
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (run / "summary.json").write_text("{}", encoding="utf-8")
    code = launch(command, run, monkeypatch, tmp_path / "out")
    assert not mark.exists()
    said = capsys.readouterr()
    assert code == 2, said
    assert "Traceback" not in said.err + said.out
    assert "stranger." in said.err or "without interpolations" in said.err
