"""What the README shows works as it is shown."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from src import config as configuration
from src.config import ROOT
from src.models.loading import load_policy
from src.training import checkpoint

README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(path: str) -> str:
    """The block of code that follows the first mention of a file."""
    found = re.search(rf"`{re.escape(path)}`\n\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None, f"the README shows no {path}"
    return found[1]


def test_what_a_run_saves_loads_with_transformers_and_peft_alone(small_run: Path) -> None:
    found = re.search(r"```python\n(from peft .*?)```", README, flags=re.DOTALL)
    assert found is not None
    assert len([line for line in found[1].splitlines() if line]) <= 5
    names: dict[str, Any] = {"base": str(ROOT / "src" / "assets" / "tiny"), "run": str(small_run)}
    exec(found[1], names)
    config = configuration.checked("train", ["train.threads=1"])
    model = configuration.build(config.model, configuration.section("model"))
    policy = load_policy(model, 0, checkpoint.latest(small_run))
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
    assert "test_imports_go_down_only[src/rounds/carry/ends.py] PASSED" in result.stdout
    use = "from src.config import build, checked; print(build(checked('train', ['rounds/carry=ends']).rounds.carry))"
    result = subprocess.run([sys.executable, "-c", use], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.strip().endswith("Ends()"), result.stderr
