"""Random command lines, valid and not: ``python -m tests.fuzz`` composes 1,000 of them and runs a few as processes.

A command line is answered with exit code 0 or 2. A traceback, another code or more than ten seconds is a finding. The
table that it prints counts the answers; the seed makes every command line again.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config import ROOT, compose
from src.config.composing import groups, options, raw
from src.types import InputError

COMMANDS = ("train", "evaluate", "solve", "warmup", "report", "plan", "study")
VALUES = (
    *("0", "1", "-1", "2", "3", "1e-3", "1e9", "nan", "inf", "null", "true", "false", "''", "[]", "{}", "[1,2]", "???"),
    *("text", "a=b", "'a, b'", "${seed}", "${nowhere}", "{a: 1}", "[a,b]", "1.5", "100000000000000000000", "-inf", "~"),
    *("é", "0x10", "012", "1_000", "[[]]", '"quoted"', "$(touch x)", "../..", "/dev/null", "\\\\boxed{1}"),
)
SLOWEST = 10.0
"""Seconds that an answer may take."""


def leaves(node: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings of a configuration."""
    if isinstance(node, DictConfig):
        return [name for key in node for name in leaves(node._get_node(key), f"{prefix}{key}.")]
    return [prefix[:-1]]


def command_line(rng: random.Random, settings: list[str], valid: dict[str, Any]) -> list[str]:
    """Up to five overrides: settings with their own or other values, options of groups, misspelt names, odd grammar."""
    made = []
    for _ in range(rng.randint(1, 5)):
        name = rng.choice(settings)
        kind = rng.random()
        if kind < 0.25:
            made.append(f"{name}={valid[name]}")
        elif kind < 0.65:
            made.append(f"{name}={rng.choice(VALUES)}")
        elif kind < 0.85:
            group = rng.choice(groups())
            made.append(f"{group}={rng.choice([*options(group), 'nonsense', '3', 'null'])}")
        elif kind < 0.93:
            place = rng.randrange(len(name))
            made.append(f"{name[:place]}{rng.choice('abcxyz_.')}{name[place + 1 :]}={rng.choice(VALUES)}")
        else:
            made.append(
                rng.choice([name, f"+{name}=1", f"~{name}", f"++{name}=1", f"{name}=1,2", "=", "==", "a=", f"{name}=["])
            )
    return made


def composed(command: str, overrides: list[str]) -> tuple[str, float]:
    """How the configuration of a command line is answered, in this process, and the processor time that it took."""
    begin = time.process_time()
    try:
        compose(command, overrides)
        answer = "valid"
    except InputError as error:
        answer = "refused" if str(error).strip() else "refused without a word"
    except BaseException as error:
        answer = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    return answer, time.process_time() - begin


def ran(command: str, overrides: list[str], folder: Path) -> tuple[str, float]:
    """How a command line is answered as a process of its own; valid ones only print their configuration."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"src.{command}", f"hydra.run.dir={folder}", *overrides, "--cfg", "job"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "Traceback" in done.stderr or done.returncode not in (0, 1, 2):
        return f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1][:80]}", time.perf_counter() - begin
    return ("valid" if done.returncode == 0 else "refused"), time.perf_counter() - begin


def fuzz(count: int, processes: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Try command lines. Returns the answers, and a line for each finding."""
    rng = random.Random(seed)
    answers: Counter[str] = Counter()
    findings = []
    known = {}
    for command in COMMANDS:
        node = raw(command, ["question=?"] if command == "solve" else [])
        plain = OmegaConf.to_container(node, resolve=False)
        names = leaves(node)
        known[command] = names, {name: _value(plain, name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count + processes):
            command = rng.choice(COMMANDS)
            overrides = command_line(rng, *known[command])
            if number < count:
                answer, seconds = composed(command, overrides)
            else:
                answer, seconds = ran(command, overrides, Path(folder) / str(number))
            answers[f"{'composed' if number < count else 'process'}: {answer}"] += 1
            if answer not in ("valid", "refused") or seconds > SLOWEST:
                findings.append(f"{answer} after {seconds:.1f} s: src.{command} {' '.join(map(repr, overrides))}")
    return answers, findings


def _value(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values[part] if isinstance(values, dict) else None
    return "null" if values is None else values


def main() -> int:
    """Print the table. Returns 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    answers, findings = fuzz(chosen.count, chosen.processes, chosen.seed)
    for answer, number in answers.most_common():
        print(f"{number:6} {answer}")
    print(*findings, sep="\n")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
