"""Any task of reasoning-gym (arXiv 2505.24760): generated problems, judged by the task's own verifier."""

from __future__ import annotations

import difflib
import importlib.metadata
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from src.benchmarks.base import Splits
from src.benchmarks.perturbations import mistakes, perturbed
from src.protocol import stated_answer
from src.records import InputError, Problem
from src.verify import LONGEST_ANSWER, IsolatedVerifier

SEED_STRIDE = 10_000_000
"""Distance between the generator seeds of two splits. A task draws problem i from seed + i, so splits that lie this far
apart never share a seed."""

TRUSTED = frozenset({"chain_sum"})
"""Tasks whose verifier only compares strings and decimals, and so runs in this process; all others run isolated."""


@dataclass
class ReasoningGym:
    """Problems of one task.

    ``params`` are the task's own options, for training and validation; each of ``tests`` names a split and what
    differs in it. Sizes count distinct questions; a question that stands in a test split is never trained on.
    """

    name: str
    task: str
    params: Mapping[str, Any] = field(default_factory=dict)
    tests: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"test": {}})
    train_size: int = 4096
    validation_size: int = 128
    test_size: int = 512
    seed: int = 0  # of the problems, not of the run
    threshold: float = 1.0  # a verifier's score from which an answer is right
    verify_seconds: float = 2.0
    perturb: Sequence[str] = ()  # every test split once more for each of these; see src/benchmarks/perturbations.py

    def check(self) -> list[str]:
        errors = []
        for name in ("train_size", "validation_size", "test_size"):
            if getattr(self, name) < 1:
                errors.append(f"benchmark.{name}={getattr(self, name)} must be 1 or more")
        if max(self.train_size, self.validation_size, self.test_size) * 20 > SEED_STRIDE:
            errors.append(f"a split of benchmark={self.name} may hold {SEED_STRIDE // 20} problems at most")
        if self.verify_seconds <= 0:
            errors.append(f"benchmark.verify_seconds={self.verify_seconds} must be above 0")
        if not 0 < self.threshold <= 1:
            errors.append(f"benchmark.threshold={self.threshold} must be in (0, 1]")
        taken = sorted({"train", "validation"} & set(self.tests))
        errors += [f"benchmark.tests.{name}: a test split cannot be named {name}" for name in taken]
        if not self.tests:
            errors.append("benchmark.tests names no test split; give one at least, e.g. {test: {}}")
        tasks = _tasks()
        if self.task not in tasks:
            near = difflib.get_close_matches(self.task, tasks, 3) or sorted(tasks)
            return [*errors, f"benchmark.task={self.task!r} is no task of reasoning-gym; valid: {', '.join(near)} …"]
        valid = {option.name for option in fields(tasks[self.task][1])} - {"seed", "size"}
        for where, params in [("params", self.params), *((f"tests.{name}", test) for name, test in self.tests.items())]:
            unknown = sorted(set(params) - valid)
            if unknown:
                errors.append(
                    f"benchmark.{where}: {self.task} has no option {', '.join(unknown)}; valid: "
                    + ", ".join(sorted(valid))
                )
                continue
            if set(self.params) - valid:
                continue  # said already
            try:
                self._dataset(0, 1, {**self.params, **params})
            except (AssertionError, ValueError, TypeError) as error:
                errors.append(f"benchmark.{where}: {self.task} refuses these options: {error}")
        return errors + mistakes(self.perturb, [self.task])

    def load(self) -> Splits:
        """Test splits first, then training problems that are in none of them.

        Raises:
            InputError: the task cannot give that many different questions, or nothing that ``perturb`` could change.
        """
        taken: set[str] = set()
        tests = {}
        for index, (name, params) in enumerate(self.tests.items(), start=2):
            tests[name] = self._draw(name, index, self.test_size, params, taken)
        train = self._draw("train", 0, self.train_size, {}, taken)
        validation = self._draw("validation", 1, self.validation_size, {}, taken)
        return perturbed(Splits(train, validation, tests), self.perturb, self.seed)

    def origin(self, split: str) -> str:
        params = {**self.params, **self.tests.get(split, {})}
        version = importlib.metadata.version("reasoning-gym")
        return f"reasoning-gym {version} {self.task} {json.dumps(params, sort_keys=True)} seed {self.seed}"

    def score(self, problem: Problem, text: str) -> float:
        answer = stated_answer(text)
        if answer is None or len(answer) > LONGEST_ANSWER:
            return 0.0
        entry = {"question": problem.question, "answer": problem.answer or None, "metadata": problem.metadata}
        return float(self._verifier(answer, entry) >= self.threshold)

    @cached_property
    def _verifier(self) -> Callable[[str, dict[str, Any]], float]:
        if self.task in TRUSTED:
            return build_verifier(self.task, dict(self.params))
        return IsolatedVerifier(build_verifier, (self.task, dict(self.params)), self.verify_seconds)

    def _dataset(self, seed: int, size: int, params: Mapping[str, Any]) -> Any:
        dataset, config = _tasks()[self.task]
        settings = config(**params, seed=seed, size=size)
        if hasattr(settings, "validate"):
            settings.validate()
        return dataset(settings)

    def _draw(self, split: str, index: int, size: int, params: Mapping[str, Any], taken: set[str]) -> list[Problem]:
        """``size`` problems whose questions nobody has ``taken``."""
        found = list(itertools.islice(self._fresh(split, index, size, params, taken), size))
        if len(found) < size:
            raise InputError(
                f"benchmark={self.name}: {self.task} gave only {len(found)} new questions for the split {split!r}, "
                f"{size} are asked for. Lower "
                f"benchmark.{'test' if index > 1 else split}_size or widen benchmark.params."
            )
        return found

    def _fresh(
        self, split: str, index: int, size: int, params: Mapping[str, Any], taken: set[str]
    ) -> Iterator[Problem]:
        tries = 20 * size
        start = (self.seed * 100 + index) * SEED_STRIDE
        dataset = self._dataset(start, tries, {**self.params, **params})
        for position in range(tries):
            entry = dataset[position]
            if entry["question"] not in taken:
                taken.add(entry["question"])
                yield Problem(f"{split}-{position}", entry["question"], _text(entry["answer"]), entry["metadata"])


def _text(answer: Any) -> str:
    """A task's gold answer; empty where any answer that passes its verifier is right (a few puzzles)."""
    return "" if answer is None else str(answer)


def build_verifier(task: str, params: dict[str, Any]) -> Callable[[str, dict[str, Any]], float]:
    """The task's own ``score_answer``."""
    dataset, config = _tasks()[task]
    judge: Callable[[str, dict[str, Any]], float] = dataset(config(**params, seed=0, size=1)).score_answer
    return judge


def _tasks() -> dict[str, tuple[Any, Any]]:
    import reasoning_gym  # noqa: F401  (registers its tasks)
    from reasoning_gym.factory import DATASETS

    return dict(DATASETS)
