"""Tasks of reasoning-gym (arXiv 2505.24760): generated problems, scored by the task's own verifier."""

from __future__ import annotations

import difflib
import importlib.metadata
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any

from pydantic import Field

from src.benchmarks.base import Benchmark, Splits
from src.benchmarks.perturbations import mistakes, perturbed, unperturbed
from src.settings import RunSettings
from src.types import InputError, Problem
from src.verifiers.sandbox import LONGEST_ANSWER, InterruptedVerdictError, IsolatedVerifier
from src.verifiers.tags import stated_answer

SEED_STRIDE = 10_000_000
"""Distance between the generator seeds of two splits. A task generates problem i from seed + i, so with this distance
no two splits share a seed."""

TRUSTED = frozenset({"chain_sum"})
"""Tasks whose verifier only compares strings and decimals. It runs in this process; all others run in a sandbox."""

NO_NUMBER = re.compile(r"(?<![a-z])(?:nan|inf|infinity)(?![a-z])", re.IGNORECASE)
"""Answers that are no number, which comparisons of numbers by their distance let pass."""

EMPTY = ("", "0", "1", "True", "False", "None")
"""Answers that some tasks accept whatever the problem, where they compare by truth value or by the first digits."""


class ReasoningGym(Benchmark):
    """Problems of one reasoning-gym task, with test splits of the same or of other tasks.

    ``params`` are the task's own options, for training and validation. ``tests`` maps each test split to the options
    that differ. A test split with the key ``task`` uses that task instead: only its own options, and its own verifier.
    Sizes are numbers of distinct questions. A question of a test split is never a training question.
    """

    task: str
    params: Mapping[str, Any] = Field(default_factory=dict)
    tests: Mapping[str, Mapping[str, Any]] = Field(default_factory=lambda: {"test": {}})
    train_size: int = Field(4096, ge=1)
    validation_size: int = Field(128, ge=1)
    test_size: int = Field(512, ge=1)
    threshold: float = Field(1.0, gt=0, le=1)  # minimum verifier score of a correct answer
    verify_seconds: float = Field(2.0, gt=0)

    def check(self) -> Iterable[str]:
        sizes = {"train": self.train_size, "validation": self.validation_size, "test": self.test_size}
        for split, size in sizes.items():
            if size * 20 > SEED_STRIDE:
                yield (
                    f"benchmark.{split}_size={size}: a split of benchmark={self.name} can have at most "
                    f"{SEED_STRIDE // 20} problems; lower it"
                )
        taken = sorted({"train", "validation"} & set(self.tests))
        yield from (f"benchmark.tests.{name}: a test split cannot be named {name}" for name in taken)
        if not self.tests:
            yield "benchmark.tests is empty; use at least one test split, e.g. {test: {}}"

    def check_run(self, run: RunSettings) -> Iterable[str]:
        errors: list[str] = []
        tasks = _tasks()
        for split in dict.fromkeys(["train", *self.tests]):
            task, options = self._options(split)
            where = "params" if split == "train" else f"tests.{split}"
            inherits = split != "train" and task == self.task  # errors of the task were reported for "train" already
            if task not in tasks:
                near = difflib.get_close_matches(task, tasks, 3) or sorted(tasks)
                place = "task" if split == "train" else f"{where}.task"
                if not inherits:
                    errors.append(
                        f"benchmark.{place}={task!r} is not a reasoning-gym task; valid, e.g.: {', '.join(near)}"
                    )
                continue
            valid = {option.name for option in fields(tasks[task][1])} - {"seed", "size"}
            unknown = sorted(set(options) - valid - set(self.params if inherits else ()))
            if unknown:
                errors.append(
                    f"benchmark.{where}: {task} has no option {', '.join(unknown)}; valid: {', '.join(sorted(valid))}"
                )
            elif set(options) <= valid:
                try:
                    _dataset(task, options, 0, 1)
                except (AssertionError, ValueError, TypeError) as error:
                    errors.append(f"benchmark.{where}: {task} rejects these options: {error}")
        return errors + mistakes(self.perturb, {self._options(split)[0] for split in self.tests} & set(tasks))

    @property
    def judging(self) -> dict[str, Any]:
        return {**super().judging, "threshold": self.threshold}

    def load(self) -> Splits:
        """Generate all splits, the test splits first, so that no test question is a training question.

        Raises:
            InputError: the task has too few different questions, or a perturbation is not valid or changes nothing.
        """
        taken: set[str] = set()
        tests = {
            split: self._draw(split, index, self.test_size, taken) for index, split in enumerate(self.tests, start=2)
        }
        train = self._draw("train", 0, self.train_size, taken)
        validation = self._draw("validation", 1, self.validation_size, taken)
        return perturbed(Splits(train, validation, tests), self.perturb, self.seed)

    def origin(self, split: str) -> str:
        task, options = self._options(unperturbed(split, self.perturb))
        version = importlib.metadata.version("reasoning-gym")
        return f"reasoning-gym {version} {task} {json.dumps(options, sort_keys=True)} seed {self.seed}"

    def score(self, problem: Problem, text: str) -> float:
        answer = stated_answer(text)
        if answer is None or len(answer) > LONGEST_ANSWER:
            return 0.0
        entry = {"question": problem.question, "answer": problem.answer or None, "metadata": problem.metadata}
        if NO_NUMBER.search(answer) and not NO_NUMBER.search(problem.answer):
            return 0.0
        if answer in EMPTY and problem.answer and _differ(problem.answer, answer):
            return 0.0
        try:
            score = self._verifier(problem.metadata.get("split", "train"))(answer, entry)
        except InterruptedVerdictError:
            return math.nan
        return score if math.isnan(score) else float(score >= self.threshold)

    def _options(self, split: str) -> tuple[str, dict[str, Any]]:
        """The task of a split, and the options that generate its problems."""
        options = dict(self.tests.get(split, {}))
        task = str(options.pop("task", self.task))
        return task, {**self.params, **options} if task == self.task else options

    @cached_property
    def _verifiers(self) -> dict[str, Callable[[str, dict[str, Any]], float]]:
        return {}

    def _verifier(self, split: str) -> Callable[[str, dict[str, Any]], float]:
        """The verifier of a split's task. Splits with the same task and options share it."""
        task, options = self._options(split)
        key = f"{task} {sorted(options.items())}"
        if key not in self._verifiers:
            self._verifiers[key] = (
                build_verifier(task, options)
                if task in TRUSTED
                else IsolatedVerifier(build_verifier, (task, options), self.verify_seconds)
            )
        return self._verifiers[key]

    def _draw(self, split: str, index: int, size: int, taken: set[str]) -> list[Problem]:
        """Generate ``size`` problems whose questions are not in ``taken``."""
        problems = list(itertools.islice(self._new_problems(split, index, size, taken), size))
        if len(problems) < size:
            task, _ = self._options(split)
            raise InputError(
                f"benchmark={self.name}: {task} gave only {len(problems)} new questions for the split {split!r}, but "
                f"{size} are needed. Lower benchmark.{'test' if index > 1 else split}_size or widen its options in "
                f"benchmark.{'tests' if index > 1 else 'params'}."
            )
        return problems

    def _new_problems(self, split: str, index: int, size: int, taken: set[str]) -> Iterator[Problem]:
        """Problems whose questions are not in ``taken``, which grows, from at most 20 * ``size`` generated ones."""
        tries = 20 * size
        start = (self.seed * 100 + index) * SEED_STRIDE
        dataset = _dataset(*self._options(split), start, tries)
        for position in range(tries):
            entry = dataset[position]
            if entry["question"] not in taken:
                taken.add(entry["question"])
                metadata = {**entry["metadata"], "split": split}
                yield Problem(f"{split}-{position}", entry["question"], _text(entry["answer"]), metadata)


def _differ(gold: str, answer: str) -> bool:
    try:
        return float(gold) != float(answer)
    except ValueError:
        return gold != answer


def _dataset(task: str, options: Mapping[str, Any], seed: int, size: int) -> Any:
    dataset, config = _tasks()[task]
    settings = config(**options, seed=seed, size=size)
    if hasattr(settings, "validate"):
        settings.validate()
    return dataset(settings)


def _text(answer: Any) -> str:
    """The gold answer of a task; empty for puzzles where every answer that passes the verifier is correct."""
    return "" if answer is None else str(answer)


def build_verifier(task: str, params: dict[str, Any]) -> Callable[[str, dict[str, Any]], float]:
    """The task's own ``score_answer``."""
    dataset, config = _tasks()[task]
    verifier: Callable[[str, dict[str, Any]], float] = dataset(config(**params, seed=0, size=1)).score_answer
    return verifier


def legs_of(animal: str) -> int:
    """Number of legs of an animal, by the table of the task ``leg_counting``."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    return int(ANIMALS[animal])


def _tasks() -> dict[str, tuple[Any, Any]]:
    import reasoning_gym  # noqa: F401  (registers its tasks)
    from reasoning_gym.factory import DATASETS

    return dict(DATASETS)
