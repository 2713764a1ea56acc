"""What the README shows works as it is shown."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from src.config import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(path: str) -> str:
    """The block of code that follows the first mention of a file."""
    found = re.search(rf"`{re.escape(path)}`\n\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None, f"the README shows no {path}"
    return found[1]


def test_a_carry_rule_takes_one_file_and_one_yaml_and_the_tests_find_it(tmp_path: Path) -> None:
    for part in ("src", "conf", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in ("src/rounds/carry/ends.py", "conf/rounds/carry/ends.yaml"):
        (tmp_path / path).write_text(shown(path), encoding="utf-8")
    tests = ["tests/test_config.py", "tests/test_architecture.py"]
    command = [sys.executable, "-m", "pytest", "-k", "carry and ends", "-vv", *tests]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[rounds/carry/ends] PASSED" in result.stdout
    assert "test_imports_go_down_only[src/rounds/carry/ends.py] PASSED" in result.stdout
    use = "from src.config import build, checked; print(build(checked('train', ['rounds/carry=ends']).rounds.carry))"
    result = subprocess.run([sys.executable, "-c", use], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.strip().endswith("Ends()"), result.stderr
