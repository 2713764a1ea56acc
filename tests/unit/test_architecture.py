"""The house: imports, sizes of files, nothing that belongs to one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.config import CONF, ROOT

FILES = sorted((ROOT / "src").rglob("*.py"))
LONGEST_FILE, LONGEST_METHOD = 300, 40
SETTINGS_ONLY = ("torch", "transformers", "peft", "wandb", "datasets", "scipy")
"""Libraries that take seconds to import; checking a configuration needs none of them."""


def test_imports_go_one_way() -> None:
    """The rules stand in pyproject.toml, [tool.importlinter]."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_is_in_the_rules() -> None:
    """A new folder or file of src/ has a place in the layers."""
    rules = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = rules[rules.index("layers = [") : rules.index("ignore_imports", rules.index("layers = ["))]
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "src").iterdir() if not path.name.startswith("__")}
    assert rooms - {"assets"} == set(re.findall(r"src\.(\w+)", layers))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_the_loop_reads_top_to_bottom() -> None:
    source = (ROOT / "src" / "training" / "trainer.py").read_text(encoding="utf-8")
    trainer = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno for node in trainer.body if isinstance(node, ast.FunctionDef)
    }
    assert {name: count for name, count in lengths.items() if count > LONGEST_METHOD} == {}


def test_no_relative_imports() -> None:
    found = [
        str(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def test_a_configuration_is_checked_without_heavy_libraries() -> None:
    code = (
        "import sys\nfrom src.config import compose\nfrom src.types import InputError\n"
        "compose('train', ['rounds=3', 'reward=process', 'algorithm=gspo', 'optimizer=adamw'])\n"
        "try:\n    compose('train', ['rounds=0', 'optimizer.lr=0', 'nonsense=1'])\n"
        "except InputError as error:\n    assert len(error.problems) >= 3, error\n"
        f"print(sorted(set({SETTINGS_ONLY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_nothing_names_a_place_on_one_machine() -> None:
    texts = [*FILES, *CONF.rglob("*.yaml"), *(ROOT / "experiments").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    texts += [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "requirements.lock")
    ]
    named = [
        str(path) for path in texts if re.search(r"[\s\"'(=](/work|/tmp|/home|/root|/opt)\b", path.read_text("utf-8"))
    ]
    assert named == []
