"""Question-answer data sets from local files or the Hugging Face hub, scored by mathematical equivalence."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from src.benchmarks.base import Benchmark, Splits
from src.benchmarks.perturbations import mistakes, perturbed, unperturbed
from src.benchmarks.rows import FORMATS, Rows, read_file, read_hub
from src.benchmarks.table import Table
from src.settings import RunSettings
from src.types import InputError, Problem
from src.verifiers.equivalence import Equivalence

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""Names of repositories. ``datasets`` takes other names for a local folder or for one of its own loaders."""

SHOWN = 10
"""Maximum number of data errors in a message; further ones are only counted."""


class Dataset(Benchmark):
    """A training table and test tables of problems.

    The validation problems are drawn from the training table with ``seed``. Training questions that repeat or that are
    in a test split are removed. A test question must not occur twice.
    """

    tests: Mapping[str, Table]
    train: Table | None = None
    source: str | None = None

    def check(self) -> Iterable[str]:
        taken = sorted({"train", "validation"} & set(self.tests))
        yield from (f"benchmark.tests.{name}: a test split cannot be named {name}" for name in taken)
        if not self.tests:
            yield "benchmark.tests is empty; use at least one test split"
        yield from mistakes(self.perturb)

    def check_run(self, run: RunSettings) -> Iterable[str]:
        for where, table in self._tables().items():
            try:
                self._place(where, table)
            except InputError as error:
                yield from error.problems

    @property
    def trains(self) -> bool:
        return self.train is not None

    def load(self) -> Splits:
        """Load all problems and validate every row.

        Raises:
            InputError: invalid rows (the first few are named, the others counted), or too few training questions.
        """
        errors: list[str] = []
        problems = {where: list(self._problems(where, table, errors)) for where, table in self._tables().items()}
        tests = {name: problems[f"tests.{name}"] for name in self.tests}
        seen: dict[str, str] = {}
        for split in tests.values():
            for problem in split:
                first = seen.setdefault(_plain(problem.question), problem.id)
                if first != problem.id:
                    errors.append(f"benchmark={self.name}: {problem.id} has the same question as {first}")
        if errors:
            more = [f"… and {len(errors) - SHOWN} more"] if len(errors) > SHOWN else []
            raise InputError(*errors[:SHOWN], *more)
        train, validation = self._cut(problems.get("train", []), seen)
        splits = Splits(train, validation, {name: split[: self.test_size] for name, split in tests.items()})
        return perturbed(splits, self.perturb, self.seed)

    def score(self, problem: Problem, text: str) -> float:
        return self._equivalence.score(problem, text)

    def origin(self, split: str) -> str:
        """The exact source of a split: the file and its SHA-256, or the repository and its commit."""
        where = "train" if split in ("train", "validation") else f"tests.{unperturbed(split, self.perturb)}"
        table = self._tables()[where]
        place = self._place(where, table)
        if isinstance(place, Path):
            return f"{place.resolve().parent.name}/{place.name} sha256:{hashlib.sha256(place.read_bytes()).hexdigest()}"
        return f"{place}@{table.revision} {table.subset or 'default'} {table.split}"

    @cached_property
    def _equivalence(self) -> Equivalence:
        return Equivalence(self.verify_seconds)

    def _tables(self) -> dict[str, Table]:
        train = {"train": self.train} if self.train else {}
        return train | {f"tests.{name}": table for name, table in self.tests.items()}

    def _place(self, where: str, table: Table) -> Path | str:
        """The local file of a table, or the name of its repository.

        Raises:
            InputError: the file does not exist, or the table has no file, repository or revision.
        """
        if self.source is None and table.hub is not None:
            if not REPOSITORY.fullmatch(table.hub) or Path(table.hub).exists():
                raise InputError(
                    f"benchmark.{where}.hub={table.hub} is not a repository on the Hugging Face hub (owner/name); read "
                    "local files with benchmark.source=<folder>"
                )
            if table.revision is None:
                raise InputError(f"benchmark.{where}.revision is null; use a commit of {table.hub}")
            return table.hub
        if self.source is not None and Path(self.source).is_file():
            if len(self._tables()) > 1:
                raise InputError(
                    f"benchmark.source={self.source} is one file, but benchmark={self.name} reads "
                    f"{len(self._tables())} files; use their folder"
                )
            return Path(self.source)
        if table.file is None:
            raise InputError(f"benchmark.{where}.file is null; use a file below benchmark.source={self.source}")
        stem = Path(self.source or "") / table.file
        tried = [stem] if stem.suffix in FORMATS else [stem.with_name(stem.name + suffix) for suffix in FORMATS]
        for path in tried:
            if path.is_file():
                return path
        names = str(stem) if len(tried) == 1 else f"{stem} ({', '.join(FORMATS)})"
        raise InputError(f"benchmark.{where}: the file {names} does not exist; check benchmark.source")

    def _problems(self, where: str, table: Table, errors: list[str]) -> Iterator[Problem]:
        """The problems of a table. A message for each invalid row is appended to ``errors``."""
        place = self._place(where, table)
        ids: set[str] = set()
        empty = True
        for index, row in enumerate(_rows(place, table)):
            empty = False
            if not table.keeps(row):
                continue
            try:
                problem = table.problem(index, row)
                if problem.id in ids:
                    raise InputError(f"the id {problem.id} occurs twice")
                for gold in (problem.answer, *problem.metadata.get("answers", ())):
                    if self.score(problem, f"\\boxed{{{gold}}}") != 1:
                        raise InputError(f"the verifier rejects the gold answer {gold!r} itself")
            except InputError as error:
                errors.append(f"{place}, row {index + 1}: {error}")
            else:
                ids.add(problem.id)
                yield problem
        if not ids and not errors:
            errors.append(f"{place} has no rows" if empty else f"{place} has no rows with {dict(table.where)}")

    def _cut(self, problems: Sequence[Problem], seen: Mapping[str, str]) -> tuple[list[Problem], list[Problem]]:
        """Training and validation problems, shuffled with ``seed`` and without repeated or test questions."""
        if self.train is None:
            return [], []
        new = list({_plain(problem.question): problem for problem in reversed(problems)}.values())[::-1]
        new = [problem for problem in new if _plain(problem.question) not in seen]
        random.Random(self.seed).shuffle(new)
        if len(new) < self.validation_size + (self.train_size or 1):
            raise InputError(
                f"benchmark={self.name} has only {len(new)} different training questions, but benchmark.validation_size"
                f"={self.validation_size} and benchmark.train_size={self.train_size} need more; lower one of them"
            )
        chosen = new[self.validation_size :][: self.train_size]
        return chosen, new[: self.validation_size]


def _plain(question: str) -> str:
    """A question with normalised white space, to compare it with others."""
    return " ".join(question.split())


def _rows(place: Path | str, table: Table) -> Rows:
    if isinstance(place, Path):
        return read_file(place)
    return read_hub(place, table.subset, table.split, table.revision)
