"""Imports go one way only, and each third party has one door."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from src.config import ROOT

FILES = sorted((ROOT / "src").rglob("*.py"))
ORDER = [
    {"types"},
    {"utils", "optimizers"},
    {"verifiers"},
    {"rounds", "rewards", "credit", "benchmarks", "engines", "algorithms"},
    {"tracking"},
    {"models", "training", "evaluation", "sft", "estimating"},
    {"config"},
    {"reporting"},
    {"speed"},
    {"train", "evaluate", "solve", "pretrain", "warmup", "export", "report"},
]
"""Rooms from the ground up: a room imports from lower rooms only (lazily, inside functions, too)."""

PLUG_INS = {
    "rounds": {"types", "verifiers", "engines"},
    "rewards": {"types", "verifiers"},
    "credit": {"types"},
    "benchmarks": {"types", "verifiers"},
    "engines": {"types", "verifiers"},
    "algorithms": set(),
}
"""What the files of each plug-in package may import besides their own package."""

SHARED = {
    *("base", "perturbations"),
    *("sampling", "cache", "prefixes", "batch", "forward", "prompts", "llama", "native"),
    *("formulas", "family"),
}
"""Modules of a plug-in package that its plug-ins build on."""

DOORS = {
    "hydra": {"config"},
    "omegaconf": {"config", "train", "evaluate", "solve", "pretrain", "warmup", "export", "report", "speed"},
    "wandb": {"tracking"},
    "transformers": {"models", "engines", "pretrain"},
    "peft": {"models", "engines"},
    "bitsandbytes": {"models", "optimizers"},
    "datasets": {"benchmarks", "speed"},  # the latter for TRL, which takes its prompts so
    "reasoning_gym": {"benchmarks"},
    "math_verify": {"verifiers"},
    "sympy": {"verifiers"},
    "matplotlib": {"reporting", "speed"},
    "trl": {"speed"},
}


def room(path: Path) -> str:
    return path.relative_to(ROOT / "src").parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Dotted names of everything that a file imports, at any depth."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"src.{alias.name}" for alias in node.names] if node.module == "src" else [str(node.module)]
    return found


def own(path: Path) -> list[list[str]]:
    """Imports from the project, as parts after ``src``."""
    return [name.split(".")[1:] for name in imports(path) if name.startswith("src.")]


def level(name: str) -> int:
    return next(index for index, rooms in enumerate(ORDER) if name in rooms)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    if path == ROOT / "src" / "__init__.py":
        return
    here = room(path)
    upward = [target for target, *_ in own(path) if target != here and level(target) > level(here)]
    assert upward == []
    if here in PLUG_INS:
        assert {target for target, *_ in own(path)} <= PLUG_INS[here] | {here}
        relatives = [parts[-1] for parts in own(path) if parts[0] == here]
        assert set(relatives) <= SHARED, "plug-ins never import each other"


@pytest.mark.parametrize("library", DOORS)
def test_each_third_party_has_its_doors(library: str) -> None:
    users = {room(path) for path in FILES for name in imports(path) if name.split(".")[0] == library}
    assert users == DOORS[library]


def test_nobody_imports_an_entry_point() -> None:
    importers = [(str(path), parts[0]) for path in FILES for parts in own(path) if parts[0] in ORDER[-1]]
    assert importers == []


def test_the_loop_can_be_read_in_one_go() -> None:
    source = (ROOT / "src" / "training" / "trainer.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 300
    trainer = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno for node in trainer.body if isinstance(node, ast.FunctionDef)
    }
    assert {name: count for name, count in lengths.items() if count > 40} == {}


def test_nothing_names_a_place_on_one_machine() -> None:
    texts = [*FILES, *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "experiments").rglob("*.md"), ROOT / "README.md"]
    named = [str(path) for path in texts if re.search(r"[\s\"'(=](/work|/tmp|/home|/root)\b", path.read_text("utf-8"))]
    assert named == []
