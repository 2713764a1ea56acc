"""What a section of ``src.speed`` works with, and what it returns."""

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
    """Rows of text under headings."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Measured:
    """A section's results: tables for people, all numbers for programs."""

    about: str  # what was compared, in a sentence or two
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workbench:
    """The configuration of the measurements; nothing is loaded before a measurement asks for it."""

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
        """The seed of everything that is drawn."""
        return int(self.run.seed)

    @property
    def model(self) -> ModelSettings:
        """The settings of the model."""
        model: ModelSettings = self.run.model
        return model

    def policy(self, lora: Lora | None) -> Policy:
        """The model in its precision, with a fresh adapter or none (``dtype=auto`` would mean another without)."""
        dtype = str(self.model.precision).removeprefix("torch.")
        # Unvalidated: without an adapter, half precision is refused only because it cannot be trained.
        settings = ModelSettings.model_construct(**{**dict(self.model), "lora": lora, "adapter": None, "dtype": dtype})
        return load_policy(settings, self.seed)

    def sampler(self) -> Policy:
        """The policy to sample from where nothing is trained: the plain model, or with its adapter (``adapter``)."""
        return self.policy(self.model.lora if self.settings.adapter else None)

    def problems(self, count: int) -> list[Problem]:
        """The training problems of the benchmark.

        Raises:
            InputError: there are fewer than ``count``.
        """
        benchmark = self.run.benchmark
        problems: list[Problem] = benchmark.load().train
        if len(problems) < count:
            raise InputError(
                f"benchmark={benchmark.name} gives {len(problems)} training problems, and {count} are measured with; "
                "choose another, or lower measuring.problems"
            )
        return problems

    def engine(self, weights: Any, **changes: Any) -> Engine:
        """The engine, with some settings changed."""
        engine: Engine = self.run.engine.replace(**changes).build(weights, self.model)
        return engine


class Unending:
    """A policy's weights as an engine sees them, but no token ends a turn: lengths are those that are asked for."""

    end_tokens: frozenset[int] = frozenset()

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.codec, self.device, self.pad_token = policy.codec, policy.device, policy.pad_token

    def writing(self, writer: Writer) -> AbstractContextManager[Any]:
        return self.policy.writing(writer)


def compared(case: str, timed: Mapping[str, Timed], reference: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """A row of text and one of numbers for each way: its seconds, tokens a second, and speed against ``reference`` for
    each token."""
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
    """The table of several cases, and its numbers."""
    found = [row for case, timed in cases.items() for row in compared(case, timed, reference)]
    headings = ("case", "way", "seconds", "tokens/s", f"times as fast as {reference}")
    return Table(title, headings, [text for text, _ in found]), [numbers for _, numbers in found]


def span(lengths: Sequence[int]) -> str:
    """A number, or the smallest and the largest of several."""
    low, high = min(lengths), max(lengths)
    return f"{low}" if low == high else f"{low} to {high}"
