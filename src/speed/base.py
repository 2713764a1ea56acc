"""The inputs (``Workbench``) and the result (``Measured``) of a section of ``src.speed``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.config import Config
from src.models.loading import load_policy
from src.models.policy import Policy
from src.models.settings import Lora, ModelSettings
from src.speed.settings import Measuring
from src.speed.timing import Timed, speedup
from src.types import Engine, InputError, Problem, Writer


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Measured:
    """Results of a section: tables to read, and all numbers for programs."""

    about: str  # description of the comparison, in a sentence or two
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workbench:
    """Configuration of the measurements. Models and problems are loaded on demand."""

    config: Config[Any]
    directory: Path

    @property
    def run(self) -> Any:
        """The typed settings of the command."""
        return self.config.settings

    @property
    def settings(self) -> Measuring:
        """The settings of the measurements."""
        measuring: Measuring = self.run.measuring
        return measuring

    @property
    def seed(self) -> int:
        """The seed of all random choices."""
        return int(self.run.seed)

    @property
    def model(self) -> ModelSettings:
        """The settings of the model."""
        model: ModelSettings = self.run.model
        return model

    def policy(self, lora: Lora | None) -> Policy:
        """The model with a new adapter or none, in the same precision for both.

        The precision is set explicitly, because ``dtype=auto`` depends on whether there is an adapter.
        """
        dtype = str(self.model.precision).removeprefix("torch.")
        # Without validation: it rejects half precision without an adapter, because that cannot be trained.
        settings = ModelSettings.model_construct(**{**dict(self.model), "lora": lora, "adapter": None, "dtype": dtype})
        return load_policy(settings, self.seed)

    def sampler(self) -> Policy:
        """The policy of sampling benchmarks: the plain model, or with ``measuring.adapter`` a new adapter on it."""
        return self.policy(self.model.lora if self.settings.adapter else None)

    def problems(self, count: int) -> list[Problem]:
        """All training problems of the benchmark.

        Raises:
            InputError: there are fewer than ``count``.
        """
        benchmark = self.run.benchmark
        problems: list[Problem] = benchmark.load().train
        if len(problems) < count:
            raise InputError(
                f"benchmark={benchmark.name} has {len(problems)} training problems, but {count} are needed; choose "
                "another benchmark, or lower measuring.problems"
            )
        return problems

    def engine(self, weights: Any, **changes: Any) -> Engine:
        """Build the configured engine, with ``changes`` to its settings."""
        engine: Engine = self.run.engine.replace(**changes).build(weights, self.model)
        return engine


class Unending:
    """A policy without end-of-sequence tokens, so that every completion has exactly the requested length."""

    end_tokens: frozenset[int] = frozenset()

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.codec, self.device, self.pad_token = policy.codec, policy.device, policy.pad_token

    def writing(self, writer: Writer) -> AbstractContextManager[Any]:
        return self.policy.writing(writer)


def compared(case: str, timed: Mapping[str, Timed], reference: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """For each method, a row of text and a dictionary of numbers: seconds, tokens per second, and speedup per token
    over ``reference``."""
    for name, way in timed.items():
        ratio = speedup(timed[reference].paces, way.paces)
        text = "1" if name == reference else f"{ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        yield (
            [case, name, f"{way.median:.3g}", f"{way.rate:.0f}", text],
            {
                "case": case,
                "way": name,
                "tokens": list(way.tokens),
                "seconds": list(way.seconds),
                "median_seconds": way.median,
                "tokens_per_second": way.rate,
                "speedup": {"against": reference, "median": ratio.estimate, "low": ratio.low, "high": ratio.high},
            },
        )


def comparison(title: str, cases: Mapping[Any, Mapping[str, Timed]], reference: str) -> tuple[Table, list[Any]]:
    """Compare methods in several cases: the table, and its numbers."""
    found = [row for case, timed in cases.items() for row in compared(case, timed, reference)]
    headings = ("case", "method", "seconds", "tokens/s", f"times as fast as {reference}")
    return Table(title, headings, [text for text, _ in found]), [numbers for _, numbers in found]


def span(lengths: Sequence[int]) -> str:
    """The range of ``lengths`` as text: ``12`` or ``3 to 12``."""
    low, high = min(lengths), max(lengths)
    return f"{low}" if low == high else f"{low} to {high}"
