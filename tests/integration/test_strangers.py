"""A run directory, an adapter or a model from a stranger is data: no command runs code from it."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import src.evaluate
import src.export
import src.report
import src.solve
import src.train
import src.warmup
from src import config as configuration
from src.config import compose
from src.models.loading import load_policy
from src.training.checkpoint import _seal
from src.types import InputError
from tests.conftest import SMALL, run_small
from tests.helpers.payload import Payload

TINY = Path(src.train.__file__).parent / "assets" / "tiny"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped: it has a checkpoint, and can be resumed."""
    run = run_small(
        tmp_path_factory.mktemp("runs") / "made", "train.steps=2", "checkpoint.every=1", "checkpoint.keep=0"
    )
    (run / "summary.json").rename(run / "summary.kept")
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def plant(run: Path, where: str, place: Path) -> None:
    """Put a class that runs a command into the recorded configuration."""
    file = run / ".hydra" / "config.yaml"
    values = yaml.safe_load(file.read_text())
    payload = {"_target_": "subprocess.Popen", "args": ["touch", str(place)]}
    section = values
    *path, last = where.split(".")
    for name in path:
        section = section.setdefault(name, {})
    section[last] = [payload] if last == "also" else payload
    file.write_text(yaml.safe_dump(values))


def finished(run: Path) -> None:
    (run / "summary.kept").rename(run / "summary.json")


def commands(run: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every command that reads a run, as a function that gives its exit code."""
    out = str(run.parent / "out")

    def resume() -> int:
        monkeypatch.setattr(sys, "argv", ["src.train", f"resume={run}"])
        return src.train.main()

    def launch(command: str, task: Any, *overrides: str) -> int:
        monkeypatch.setattr(sys, "argv", [f"src.{command}", *overrides])
        return configuration.launch(command, task)

    return {
        "resume": resume,
        "evaluate": lambda: launch("evaluate", src.evaluate.job, f"run={run}", "evaluation.limit=1"),
        "solve": lambda: launch("solve", src.solve.job, f"run={run}", "question=?"),
        "export": lambda: launch("export", src.export.export, f"run={run}", f"out={out}"),
        "report": lambda: launch("report", src.report.report, f"runs={run}", f"out={out}"),
        "again": lambda: launch("train", src.train.job, *SMALL, "train.steps=2", f"hydra.run.dir={run}"),
    }


PLACES = ["optimizer", "model", "evaluation.also", "reward.terms.outcome", "tracking", "anything.new", "algorithm"]


@pytest.mark.parametrize("where", PLACES)
def test_no_command_builds_a_class_that_a_recorded_configuration_names(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], where: str
) -> None:
    place = tmp_path / "ran"
    plant(run, where, place)
    finished(run)
    for name, command in commands(run, monkeypatch).items():
        capfd.readouterr()
        code = command()
        said = capfd.readouterr()
        assert code == 2, (name, said)
        assert not place.exists(), name
        assert "Traceback" not in said.err, name
        assert "subprocess.Popen" in said.err or name == "again", (name, said.err)


def test_no_command_unpickles_a_trainer_state(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "ran"
    for step in (1, 2):
        folder = run / "checkpoints" / f"step_{step}"
        for file in folder.glob("trainer_state.*"):
            file.unlink()
        torch.save({"settings": Payload(place)}, folder / "trainer_state.pt")
        (folder / "manifest.json").unlink()
        _seal(folder)  # a stranger makes the manifest fit
    assert commands(run, monkeypatch)["resume"]() == 2
    assert "could run code; not loaded" in capfd.readouterr().err
    assert not place.exists()


def test_an_adapter_in_a_pickle_is_refused(tmp_path: Path, made: Path) -> None:
    place, folder = tmp_path / "ran", tmp_path / "adapter"
    shutil.copytree(made / "checkpoints" / "step_2" / "adapter", folder)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload(place)))
    with pytest.raises(InputError, match=r"pickles .* can run code and are not loaded"):
        compose("train", [f"model.adapter={folder}"])
    assert not place.exists()


def stranger(folder: Path, **config: Any) -> Path:
    """A copy of the embedded model with other entries in its configuration."""
    shutil.copytree(TINY, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | config))
    return folder


def test_a_model_in_a_pickle_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    place, folder = tmp_path / "ran", stranger(tmp_path / "model")
    (weights,) = folder.glob("*.safetensors")
    tensors = load_file(weights)
    weights.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    settings = compose("train", [f"model.name={folder}"]).settings.model
    with pytest.raises(InputError, match="its weights are pickles"):
        load_policy(settings, 0)
    assert (
        load_policy(settings.replace(pickled=True), 0).base_hash
        == load_policy(settings.replace(name="embedded:tiny"), 0).base_hash
    )
    torch.save({"x": Payload(place)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(settings.replace(pickled=True), 0)
    assert not place.exists()


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    place = tmp_path / "ran"
    auto = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    folder = stranger(tmp_path / "model", auto_map=auto, model_type="theirs")
    (folder / "theirs.py").write_text(f"open({str(place)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(compose("train", [f"model.name={folder}"]).settings.model, 0)
    assert not place.exists()


@pytest.mark.parametrize("name", ["embedded:../tiny", "embedded:../../evil", "embedded:tiny/../../x", "embedded:"])
def test_the_name_of_an_embedded_model_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no such embedded model; valid: tiny"):
        compose("train", [f"model.name={name}"])
