"""A run directory, an adapter, a model or a data set from a stranger is data: no command runs code from it.

What is planted writes the file ``ran``: a program that a recorded configuration starts, a module that it imports, an
object that is unpickled, or code in a template.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from safetensors.torch import load_file

import src.evaluate
import src.export
import src.report
import src.solve
import src.train
from src import config as configuration
from src.benchmarks.rows import read_hub
from src.config import compose
from src.models.loading import load_codec, load_policy
from src.models.settings import EMBEDDED
from src.training.checkpoint import _seal
from src.types import InputError
from tests.conftest import SMALL, run_small
from tests.helpers.payload import Payload

COMMANDS = ("resume", "evaluate", "solve", "export", "report")

PROGRAM = {"_target_": "subprocess.Popen", "args": ["touch", "ran"]}
MODULE = {"_target_": "stranger.Planted"}

CONFIGURED: dict[str, dict[str, Any]] = {
    **{f"{name}, a program": {name: PROGRAM} for name in ("optimizer", "model", "tracking", "algorithm")},
    **{f"{name}, a module": {name: MODULE} for name in ("optimizer", "algorithm", "verifier")},
    "a term, a program": {"reward": {"terms": {"outcome": PROGRAM}}},
    "a new term": {"reward": {"terms": {"planted": MODULE}}},
    "an unknown section": {"anything": {"new": PROGRAM}},
    "a section in a section": {"rounds": {"carry": MODULE}},
    "a function": {"verifier": {"_target_": "src.verifiers.function.Function", "function": "stranger.planted"}},
    "also, a program": {"evaluation": {"also": [PROGRAM]}},
    "also, a module": {"evaluation": {"also": [MODULE]}},
    "also, a name": {"evaluation": {"also": ["stranger.Planted"]}},
    "also, an interpolation": {"planted": "stranger.Planted", "evaluation": {"also": ["${planted}"]}},
    "also, a list elsewhere": {"planted": ["stranger.Planted"], "evaluation": {"also": "${planted}"}},
}
"""Changes of a recorded configuration that name code."""

NAMED = ("subprocess.Popen", "stranger.", "without interpolations")
"""How messages name it."""


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


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that planted code writes. Programs find it in the working directory; ``stranger`` can be imported."""
    place = tmp_path / "ran"
    (tmp_path / "stranger.py").write_text(f"open({str(place)!r}, 'w')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return place


def call(command: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command that reads a run. Returns its exit code."""
    out = f"out={run.parent / 'out'}"
    if command == "resume":
        monkeypatch.setattr(sys, "argv", ["src.train", f"resume={run}"])
        return src.train.main()
    task, arguments = {
        "evaluate": (src.evaluate.job, [f"run={run}", "evaluation.limit=1"]),
        "solve": (src.solve.job, [f"run={run}", "question=?"]),
        "export": (src.export.export, [f"run={run}", out]),
        "report": (src.report.report, [f"runs={run}", out]),
        "train": (src.train.job, [*SMALL, "train.steps=2", f"hydra.run.dir={run}"]),
    }[command]
    monkeypatch.setattr(sys, "argv", [f"src.{command}", *arguments])
    return configuration.launch(command, task)


def configure(run: Path, change: dict[str, Any]) -> None:
    """Merge a change into the recorded configuration."""
    file = run / ".hydra" / "config.yaml"
    merged = OmegaConf.merge(OmegaConf.create(yaml.safe_load(file.read_text())), change)
    file.write_text(yaml.safe_dump(OmegaConf.to_container(merged, resolve=False)))


@pytest.mark.parametrize("planted", CONFIGURED)
def test_no_command_runs_code_that_a_recorded_configuration_names(
    run: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], planted: str
) -> None:
    configure(run, CONFIGURED[planted])
    (run / "summary.kept").rename(run / "summary.json")
    for command in (*COMMANDS, "train") if planted.endswith("a program") else COMMANDS:
        capfd.readouterr()
        code = call(command, run, monkeypatch)
        said = capfd.readouterr()
        assert code == 2, (command, said)
        assert not mark.exists(), command
        assert "Traceback" not in said.err + said.out, command
        assert any(word in said.err for word in NAMED) or command == "train", (command, said.err)


def sealed(run: Path) -> None:
    """Make the manifests fit the files, as a stranger would."""
    for folder in (run / "checkpoints").iterdir():
        if folder.is_dir():
            (folder / "manifest.json").unlink()
            _seal(folder)


def plant_state(run: Path, mark: Path) -> None:
    for folder in (run / "checkpoints").glob("step_*"):
        for file in folder.glob("trainer_state.*"):
            file.unlink()
        torch.save({"settings": Payload(mark)}, folder / "trainer_state.pt")


def plant_optimizer(run: Path, mark: Path) -> None:
    for file in (run / "checkpoints").glob("step_*/trainer_state.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "optimizer": PROGRAM}))


def plant_pickled_adapter(run: Path, mark: Path) -> None:
    for file in (run / "checkpoints").rglob("adapter_model.safetensors"):
        file.unlink()
        file.with_name("adapter_model.bin").write_bytes(pickle.dumps(Payload(mark)))


def plant_beside_adapter(run: Path, mark: Path) -> None:
    names = {"base_model_class": "Planted", "parent_library": "stranger"}
    for file in (run / "checkpoints").rglob("adapter_config.json"):
        values = json.loads(file.read_text())
        file.write_text(json.dumps({**values, "auto_mapping": names, "megatron_core": "stranger"}))
        for name in ("adapter_model.bin", "optimizer.pt", "training_args.bin"):
            file.with_name(name).write_bytes(pickle.dumps(Payload(mark)))


def plant_megatron(run: Path, mark: Path) -> None:
    for file in (run / "checkpoints").rglob("adapter_config.json"):
        values = json.loads(file.read_text())
        file.write_text(json.dumps({**values, "megatron_config": {"a": 1}, "megatron_core": "stranger"}))


def plant_tokenizer(run: Path, mark: Path) -> None:
    """Pickles under every name that tokenizers are known by; the intact tokenizer.json is beside them."""
    folder = run.parent / "theirs"
    shutil.copytree(EMBEDDED / "tiny", folder)
    for name in TOKENIZER_FILES:
        (folder / name).write_bytes(pickle.dumps(Payload(mark)))
    configure(run, {"model": {"name": str(folder)}})


TOKENIZER_FILES = (
    *("tokenizer.pkl", "tokenizer.bin", "tokenizer.model", "vocab.pkl", "vocab.bin", "vocab.txt", "spiece.model"),
    *("sentencepiece.bpe.model", "special_tokens_map.pkl", "corpus.bin", "tokenizer.pickle", "processor.bin"),
)

FILES: dict[str, tuple[Callable[[Path, Path], None], dict[str, int]]] = {
    "a trainer state in a pickle": (plant_state, {"resume": 2}),
    "a class in the optimizer's state": (plant_optimizer, {"resume": 2}),
    "an adapter in a pickle": (plant_pickled_adapter, dict.fromkeys(("resume", "evaluate", "solve", "export"), 2)),
    "pickles and classes beside an adapter": (plant_beside_adapter, {"resume": 0, "solve": 0, "export": 0}),
    "a module in an adapter's configuration": (plant_megatron, {"solve": 0, "export": 2}),
    "pickles beside a tokenizer": (plant_tokenizer, {"resume": 2, "evaluate": 0, "solve": 0, "export": 0}),
}
"""Files with code, and the exit codes of the commands that meet them."""


@pytest.mark.parametrize(
    ("planted", "command"), [(planted, command) for planted, (_, codes) in FILES.items() for command in codes]
)
def test_no_command_runs_code_in_the_files_of_a_run(
    run: Path,
    mark: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    planted: str,
    command: str,
) -> None:
    plant, codes = FILES[planted]
    plant(run, mark)
    sealed(run)
    code = call(command, run, monkeypatch)
    said = capfd.readouterr()
    assert not mark.exists()
    assert code == codes[command], said
    assert "Traceback" not in said.err + said.out


def stranger(folder: Path, **config: Any) -> Path:
    """A copy of the embedded model with other entries in its configuration."""
    shutil.copytree(EMBEDDED / "tiny", folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def test_an_adapter_in_a_pickle_is_refused(tmp_path: Path, mark: Path, run: Path) -> None:
    plant_pickled_adapter(run, mark)
    with pytest.raises(InputError, match=r"pickles .* can run code and are not loaded"):
        compose("train", [f"model.adapter={run / 'checkpoints' / 'step_2' / 'adapter'}"])
    assert not mark.exists()


def test_a_model_in_a_pickle_is_refused_unless_it_is_asked_for(tmp_path: Path, mark: Path) -> None:
    folder = stranger(tmp_path / "model")
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
    torch.save({"x": Payload(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(settings.replace(pickled=True), 0)
    assert not mark.exists()


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}, "model_type": "theirs"},
        {"attn_implementation": "stranger/kernel"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    ],
    ids=["classes", "a kernel of the hub", "a package that is not installed"],
)
def test_code_that_a_model_asks_for_is_not_run(tmp_path: Path, mark: Path, config: dict[str, Any]) -> None:
    folder = stranger(tmp_path / "model", **config)
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(compose("train", [f"model.name={folder}"]).settings.model, 0)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["Theirs", "Qwen2Tokenizer", "PreTrainedTokenizerFast", None])
def test_code_that_comes_with_a_tokenizer_is_not_run(tmp_path: Path, mark: Path, kind: str | None) -> None:
    folder = stranger(tmp_path / "model")
    file = folder / "tokenizer_config.json"
    values = json.loads(file.read_text()) | {"tokenizer_class": kind}
    file.write_text(json.dumps(values | {"auto_map": {"AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]}}))
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w')\nclass Theirs: pass\n")
    with suppress(InputError):  # or a tokenizer of the library's own
        load_codec(compose("train", [f"model.name={folder}"]).settings.model)
    assert not mark.exists()


def test_a_chat_template_cannot_leave_its_sandbox(tmp_path: Path, mark: Path) -> None:
    folder = stranger(tmp_path / "model")
    code = f"{{{{ cycler.__init__.__globals__.os.system('touch {mark}') }}}}"
    (folder / "chat_template.jinja").write_text(code + (folder / "chat_template.jinja").read_text())
    codec = load_codec(compose("train", [f"model.name={folder}"]).settings.model)
    with pytest.raises(InputError, match="refuses the prompt"):
        codec.chat([{"role": "user", "content": "1 + 2 ="}])
    assert not mark.exists()


def data_set(folder: Path, mark: Path) -> Path:
    """A folder with everything in it that a library for data sets may load: a script, pickles, a cache."""
    folder.mkdir()
    code = f"open({str(mark)!r}, 'w')\n"
    for name in (f"{folder.name}.py", "dataset.py", "__init__.py"):
        (folder / name).write_text(code)
    for name in ("train.pkl", "test.pkl", "train.pickle", "state.json", "dataset_info.json", "cache-1.arrow"):
        (folder / name).write_bytes(pickle.dumps(Payload(mark)))
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: train.pkl\n---\n")
    return folder


@pytest.mark.parametrize("name", ["{folder}", "./theirs", "theirs/theirs", "pandas", "json", "theirs.py"])
def test_code_that_comes_with_a_data_set_is_not_run(tmp_path: Path, mark: Path, name: str) -> None:
    folder = data_set(tmp_path / "theirs", mark)
    data_set(folder / "theirs", mark)
    table = f"benchmark.tests.test.hub={name.format(folder=folder)}"
    with pytest.raises(InputError, match=r"is not a repository on the Hugging Face hub"):
        compose("evaluate", ["benchmark=math500", "benchmark.source=null", table])
    with pytest.raises(InputError, match=r"cannot be read"):
        read_hub(name.format(folder=folder), None, "train", None)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl", "csv"])
def test_a_pickle_in_place_of_a_table_is_refused(tmp_path: Path, mark: Path, suffix: str) -> None:
    file = tmp_path / f"test.{suffix}"
    file.write_bytes(pickle.dumps(Payload(mark)))
    settings = compose("evaluate", ["benchmark=jsonl", "benchmark.train=null", f"benchmark.tests.test.file={file}"])
    with pytest.raises(InputError, match=r"test\."):
        settings.settings.benchmark.load()
    assert not mark.exists()


@pytest.mark.parametrize("name", ["embedded:../tiny", "embedded:../../evil", "embedded:tiny/../../x", "embedded:"])
def test_the_name_of_an_embedded_model_stays_in_its_folder(name: str) -> None:
    with pytest.raises(InputError, match="no such embedded model; valid: tiny"):
        compose("train", [f"model.name={name}"])
