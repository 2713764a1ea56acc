"""Commands, code blocks and links of the README and the documentation work."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from src.config import ROOT, compose, jobs, quote_rounds, recorded, resume
from src.config.launching import configured
from src.models.loading import load_policy
from src.rounds.growing import grow
from src.run import build_run
from src.solve import quoted
from src.study import arguments as named
from src.tracking.base import Tracker
from src.train import restored
from src.training.metrics_file import MetricsFile
from src.training.trainer import Trainer, order
from src.types import InputError
from src.utils import checkpoints
from src.utils.signals import StopRequest
from tests.conftest import SMALL

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)


def shown(path: str) -> str:
    """Return the code block that directly follows the name of a file."""
    found = re.search(rf"`{re.escape(path)}`\n\n```\w+\n(.*?)```", SHOWN, flags=re.DOTALL)
    assert found is not None, f"no document shows {path}"
    return found[1]


def test_a_runs_model_loads_with_transformers_and_peft_alone(small_run: Path) -> None:
    found = re.search(r"```python\n(from peft .*?)```", SHOWN, flags=re.DOTALL)
    assert found is not None
    assert len([line for line in found[1].splitlines() if line]) <= 5
    names: dict[str, Any] = {"base": str(ROOT / "src" / "assets" / "tiny"), "run": str(small_run)}
    exec(found[1], names)
    model = recorded(small_run).settings.model
    policy = load_policy(model, 0, checkpoints.latest(small_run))
    messages = [{"role": "user", "content": "1 + 2 ="}]
    text = names["tokenizer"].apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = names["tokenizer"](text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits, ours = names["model"](input_ids=ids).logits, policy.model(input_ids=ids).logits
        base = load_policy(model, 0).model(input_ids=ids).logits
    assert torch.equal(logits, ours)
    assert not torch.equal(logits, base)
    assert tuple(ids[0].tolist()) == policy.codec.chat(messages)


def test_a_carry_rule_takes_one_file_and_one_yaml_and_the_tests_find_it(tmp_path: Path) -> None:
    for part in ("src", "conf", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in ("src/rounds/carry/ends.py", "conf/rounds/carry/ends.yaml"):
        (tmp_path / path).write_text(shown(path), encoding="utf-8")
    tests = ["tests/unit/config/test_config.py", "tests/unit/test_architecture.py"]
    command = [sys.executable, "-m", "pytest", "-k", "carry and ends", "-vv", *tests]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[rounds/carry/ends] PASSED" in result.stdout
    assert "test_a_file_can_be_read_in_one_go[src/rounds/carry/ends.py] PASSED" in result.stdout
    use = "from src.config import compose; print(repr(compose('train', ['rounds/carry=ends']).settings.rounds.carry))"
    result = subprocess.run([sys.executable, "-c", use], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.strip().endswith("Ends()"), result.stderr


# code blocks

STUDIES = sorted((ROOT / "experiments").rglob("README.md"))
LANGUAGES = {"bash", "python", "text", "yaml"}
COMMAND = re.compile(r"(?:\S*python) -m (src|experiments)\.(\S+)(?: (.*))?")
MISSING = re.compile(r"not installed|its weights are not installed|that you have not accepted yet|torch sees no CUDA")
"""Mistakes that come from packages, accepted terms or devices that this machine lacks."""

EXECUTED = ("solve", "evaluate", "report", "train")
SWEEPS = ("-m", "--multirun")


def blocks(path: Path) -> list[tuple[str, str]]:
    """Language and content of every code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def lines(path: Path) -> list[str]:
    """Command lines in the shell blocks of a document, with variables substituted and comments removed."""
    found = []
    variables: dict[str, str] = {}
    for language, content in blocks(path):
        for line in content.splitlines() if language == "bash" else ():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            line = re.sub(r"<[^<>]*>", lambda found: found[0].replace(" ", "_"), line)
            if assigned := re.fullmatch(r"([A-Z]+)=(\"[^\"]*\"|[^\"\s]*)", line.strip()):
                variables[assigned[1]] = assigned[2].strip('"')
            elif words := shlex.split(line, comments=True):
                found.append(" ".join(map(shlex.quote, words)))
    return found


COMMANDS = [(path, line) for path in [*DOCUMENTS, *STUDIES] for line in lines(path)]


def filled(arguments: list[str], run: Path, data: Path) -> list[str]:
    """Arguments with a small run and a folder of data in place of the placeholders."""
    names = {
        r"outputs/<date>/<time>|<run_dir>|<run>|<warm-up_directory>|outputs/smollm2/\w+_warmup(?=$)": str(run),
        r"multirun/main_job/\d_[^,]*": str(run),
        r"<folder[^>]*>": str(data),
        r"<name_or_folder>": "embedded:tiny",
        r"<name>|<s>": "motif",
    }
    for pattern, value in names.items():
        arguments = [re.sub(pattern, value, argument) for argument in arguments]
    return arguments


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for ``benchmark.source``: a few rows in the format of each data set."""
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("gsm8k/train", 200), ("gsm8k/test", 8), ("math500/test", 8), ("aime2024/test", 8)):
        rows = [
            {
                "question": f"{name}: {n} + 1?",
                "problem": f"{name}: {n} + 1?",
                "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}",
            }
            for n in range(count)
        ]
        if "gsm8k" not in name:
            rows = [{**row, "answer": str(n + 1), "unique_id": n, "id": n} for n, row in enumerate(rows)]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("path", [*DOCUMENTS, *STUDIES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_block_names_its_language(path: Path) -> None:
    assert {language for language, _ in blocks(path)} <= LANGUAGES


@pytest.mark.parametrize(("path", "line"), COMMANDS, ids=lambda value: str(value)[-90:])
def test_every_command_is_valid(
    path: Path, line: str, small_run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if words[0] == "make":
        targets = set(
            re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        )
        assert words[1] in targets
        return
    if words[0] in ("source", ".venv/bin/pre-commit"):
        return
    if words[:2] == ["torchrun", "--nproc-per-node"]:  # the same command line in several processes
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("MASTER_ADDR", "localhost")
        monkeypatch.setenv("WORLD_SIZE", words[2])
        words[:3] = ["python"]
    assert COMMAND.match(" ".join(words)), f"what is {line}?"
    kind, module = words[2].split(".", 1)
    if kind == "experiments":
        assert importlib.util.find_spec(words[2]) is not None
        return
    arguments = filled(words[3:], small_run, data)
    if any(argument.startswith("--") for argument in arguments if argument != "--multirun"):
        return  # Hydra's own flags; the tutorial's --config-dir is run by test_plugins.py
    if any(argument.startswith("resume=") for argument in arguments):
        with pytest.raises(InputError, match="this run is complete"):
            resume(arguments)
        return
    if module == "study":
        arguments = named(arguments)
    overrides = [quoted(argument) for argument in arguments if argument not in SWEEPS]
    ends = [override for override in overrides if "carry=ends" in override or "carry=answer,ends" in override]
    problems: list[str] = []
    for job in jobs(quote_rounds([override for override in overrides if override not in ends])):
        try:
            configured(module, job)
        except InputError as error:
            problems += error.problems
    assert [problem for problem in problems if not MISSING.search(problem)] == []


def test_the_training_step_of_the_readme_equals_the_trainers(tmp_path: Path) -> None:
    (code,) = [content for language, content in blocks(ROOT / "README.md") if language == "python"]
    lines_ = [line for line in code.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    assert len(lines_) <= 15
    names: dict[str, Any] = {"grow": grow}
    exec(code, names)
    updates = []
    for shown_ in (True, False):
        run = build_run(compose("train", ["debug=smoke", "tracking=none", "train.threads=1"]), tmp_path)
        learner, state = restored(run, None)
        with MetricsFile(tmp_path / f"{shown_}.jsonl", 0) as metrics:
            trainer = Trainer(run, learner, state, metrics, Tracker(), StopRequest(), lambda line: None)
            chosen = [run.splits.train[index] for index in order(len(run.splits.train), run.settings.seed, 0, 2)]
            updates.append(names["training_step"](run, learner, chosen, 0) if shown_ else trainer.step(0))
    assert updates[0] == {name: updates[1][name] for name in updates[0]}


def test_a_notebook_trains_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"In a notebook: `(.*)`", SHOWN)
    line = line.replace("""["rounds=3"]""", f"""["rounds=3", *{SMALL!r}, "train.steps=1", "evaluation.before=false"]""")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(line, names)
    assert names["summary"]["final"]["step"] == 1
    (run,) = Path("outputs").glob("*/*")
    assert (run / ".hydra" / "overrides.yaml").is_file()
    assert recorded(run).settings.rounds.n == 3


@pytest.mark.parametrize("path", [*DOCUMENTS, *STUDIES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_is_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
