"""Mutation testing of the code that decides numbers: ``python -m tests.mutants [<file or folder below src> ...]``.

mutmut changes one operator, constant or argument at a time and runs the unit tests that enter the changed function. A
mutant that every test passes is a fault that the suite would not notice. Prints the share of killed mutants by file and
the survivors with the reason why each is left, and ends with exit code 1 below 90 %. All mutants count, also those that
only change the words of a message. mutmut does not change properties and class bodies.

mutmut refuses a package named ``src``, so it works on a copy in which the package has another name.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from src.utils.tables import markdown

ROOT = Path(__file__).parents[1]
EXPLAINED = Path(__file__).with_name("mutants_explained.yaml")
LEAST = 0.9

ROOMS = ("credit", "evaluation", "rewards", "rounds", "training/step_metrics.py")
TESTS = ("credit", "evaluation", "rewards", "rounds", "training/test_step_metrics.py")
DESELECTED = [
    f"tests/unit/rewards/test_published.py::{name}"
    for name in (
        "test_golds_that_differ_from_plain_numbers",
        "test_the_tag_oddity_weighs_as_much_as_accuracy",
        "test_verdicts_of_two_verifiers_are_recorded",
        "test_mistakes_are_named",
        "test_a_custom_verifier_can_be_added",
        "test_problems_without_a_gold_need_their_own_verifier",
    )
]
"""Tests that load a model or compose configurations: too slow to run for every mutant."""

COPY = "lab"
"""Name of the package in the copy."""

KILLED = {1, 3, 24, -24, 36, 152, 255}
"""mutmut's exit codes of mutants that fail a test, or that run for so long that they are stopped."""


@dataclass(frozen=True)
class Mutant:
    """One change of one function; ``line`` is the changed line, ``was`` the original."""

    file: str
    function: str
    was: str
    line: str
    killed: bool

    @property
    def kind(self) -> str | None:
        """The reason of a kind of mutants that no test is meant to notice, or None."""
        if "strict=True" in self.was and re.sub(r"strict=\w*", "", self.line) == self.was.replace("strict=True", ""):
            return "drops zip's check of lengths that are always equal"
        before, after = _literals(self.was), _literals(self.line)
        changed = [(old, new) for old, new in zip(before, after, strict=False) if old != new]
        if len(before) == len(after) and len(changed) == 1 and " " in changed[0][0]:
            return "changes the words of a message"
        return None


def _literals(line: str) -> list[str]:
    return re.findall(r'"([^"]*)"', line)


def copied(folder: Path, only: Sequence[str]) -> None:
    """Copy the files that git does not ignore to ``folder``, rename the package, and configure mutmut."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if "/runs/" in name or not (ROOT / name).is_file():
            continue
        target = folder / re.sub(r"^src\b", COPY, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
        if target.suffix in (".py", ".yaml", ".toml", ".jinja"):
            target.write_text(re.sub(r"\bsrc\b", COPY, target.read_text(encoding="utf-8")), encoding="utf-8")
    settings = {
        "source_paths": [COPY],
        "only_mutate": [f"{COPY}/{room}" + ("" if room.endswith(".py") else "/*") for room in only],
        "also_copy": ["conf", "experiments", "docs", "README.md", "CHANGELOG.md"],
        "pytest_add_cli_args_test_selection": [f"tests/unit/{name}" for name in TESTS],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *(f"--deselect={name}" for name in DESELECTED)],
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[tool.mutmut]\nuse_git_change_detection = false\n" + "\n".join(lines) + "\n")


def mutants(folder: Path) -> Iterator[Mutant]:
    """The mutants that mutmut made and ran in ``folder``."""
    for meta in sorted((folder / "mutants").rglob("*.meta")):
        codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        file = meta.relative_to(folder / "mutants").with_suffix("")
        functions = _functions((folder / "mutants" / file).read_text(encoding="utf-8")) if codes else {}
        for key, code in codes.items():
            name = key.rpartition(".")[2]
            base, _, _ = name.rpartition("__mutmut_")
            was, line = _change(functions[f"{base}__mutmut_orig"], functions[name])
            function = base.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
            yield Mutant(str(file).replace(COPY, "src", 1), function, was, line, killed=code in KILLED)


def _functions(text: str) -> dict[str, list[str]]:
    """The bodies of all functions of a mutated file, by name."""
    found: dict[str, list[str]] = {}
    body: list[str] = []
    indent = 0
    for line in text.splitlines():
        start = re.match(r"( *)(?:async )?def (\w+)\(", line)
        if start is not None and "__mutmut_" in start[2]:
            body, indent = found.setdefault(start[2], []), len(start[1])
        elif line.strip() and len(line) - len(line.lstrip()) <= indent and not line.lstrip().startswith(")"):
            body = []
        else:
            body.append(line)
    return found


def _change(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """The original and the changed line of a mutant."""
    lines = [line for line in difflib.unified_diff(before, after, lineterm="", n=0) if line[:3] not in ("---", "+++")]
    was, now = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return " ".join(was).strip(), " ".join(now).strip()


def report(found: Sequence[Mutant], explained: Sequence[dict[str, str]]) -> tuple[str, float]:
    """The table by file with the survivors, and the share of mutants that was killed."""
    reasons = {(entry["function"], entry["change"]): entry["why"] for entry in explained}
    survivors = [mutant for mutant in found if not mutant.killed]
    why = {mutant: mutant.kind or reasons.get((mutant.function, mutant.line)) for mutant in survivors}
    total, left, known = (
        Counter(mutant.file for mutant in some)
        for some in (found, survivors, [mutant for mutant in survivors if why[mutant]])
    )
    rows = [
        [file, total[file], total[file] - left[file], left[file], known[file], f"{1 - left[file] / total[file]:.0%}"]
        for file in sorted(total)
    ]
    score = 1 - len(survivors) / len(found) if found else 0.0
    rows.append(["all", len(found), len(found) - len(survivors), len(survivors), known.total(), f"{score:.1%}"])
    table = markdown(
        ["file", "mutants", "killed", "survived", "explained", "score"], [list(map(str, row)) for row in rows]
    )
    kinds = Counter(mutant.kind for mutant in survivors if mutant.kind)
    lines = [table, "", *(f"{count} survivors: {kind}" for kind, count in kinds.items())]
    for mutant in survivors:
        if mutant.kind is None:
            lines += [f"{mutant.file} {mutant.function}: {why[mutant] or 'NOT EXPLAINED'}"]
            lines += [f"  - {mutant.was}", f"  + {mutant.line}"]
    survived = {(mutant.function, mutant.line) for mutant in survivors}
    lines += [f"explained, but not a survivor: {function}: {line}" for function, line in reasons.keys() - survived]
    return "\n".join(lines), score


def main() -> int:
    """Mutate, test, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("places", nargs="*", default=ROOMS, help="files or folders below src, e.g. credit")
    parser.add_argument("--folder", type=Path, help="where the copy is made; by default a temporary folder")
    parser.add_argument("--report", action="store_true", help="only report on the mutants that were run in --folder")
    given = parser.parse_args()
    places = [place.removeprefix("src/").rstrip("/") for place in given.places]
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not given.report:
            copied(folder, places)
            command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(os.cpu_count() or 1)]
            subprocess.run(command, cwd=folder, check=True)
        explained = yaml.safe_load(EXPLAINED.read_text(encoding="utf-8")) or []
        text, score = report(list(mutants(folder)), explained)
    print(text)
    return 0 if score >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
