"""What a section of ``src.speed`` works with, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src import config as configuration
from src.engines.base import Engine
from src.models.loading import Lora, ModelConfig, load_policy
from src.models.policy import Policy
from src.speed.settings import Measuring
from src.speed.timing import Timed, speedup
from src.types import InputError, Problem, Writer


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
    """The configuration, and the parts that it describes; nothing is loaded before a section asks for it."""

    values: Mapping[str, Any]  # the whole configuration, plain
    settings: Measuring
    run: Path

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""
        return int(self.values["seed"])

    def build(self, name: str, **extra: Any) -> Any:
        """The object that a section of the configuration describes."""
        return configuration.build(self.values[name], configuration.section(name), **extra)

    @property
    def model(self) -> ModelConfig:
        """The model's settings."""
        model: ModelConfig = self.build("model")
        return model

    def policy(self, lora: Lora | None) -> Policy:
        """The model in its precision, with a fresh adapter or none (``dtype=auto`` would ask for another without)."""
        dtype: Any = str(self.model.precision).removeprefix("torch.")
        return load_policy(replace(self.model, lora=lora, adapter=None, dtype=dtype), self.seed)

    def sampler(self) -> Policy:
        """What is sampled from where nothing is trained: the plain model, or with its adapter (``adapter``)."""
        return self.policy(self.model.lora if self.settings.adapter else None)

    def problems(self, benchmark: Any, count: int) -> list[Problem]:
        """The training problems of a benchmark.

        Raises:
            InputError: there are fewer than ``count``.
        """
        problems: list[Problem] = benchmark.load().train
        if len(problems) < count:
            raise InputError(
                f"benchmark={benchmark.name} gives {len(problems)} training problems, and {count} are measured with; "
                "choose another, or lower measuring.problems"
            )
        return problems

    def engine(self, weights: Any, **changes: Any) -> Engine:
        """The engine, with some settings changed."""
        engine: Engine = configuration.build({**self.values["engine"], **changes}, weights=weights)
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
