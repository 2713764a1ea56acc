"""A table of problems: where its rows are, and which columns hold the question and the gold answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src.settings import Section
from src.types import InputError, Problem
from src.verifiers.tags import boxed


class Table(Section):
    r"""The location and the columns of a table of problems.

    ``file`` is a path below ``benchmark.source``, with or without its suffix. ``hub`` is a dataset repository on the
    Hugging Face hub, which is read at ``revision`` if there is no ``benchmark.source``. A column may be a path into
    nested records (``reward_model.ground_truth``). An answer column that holds a list gives several right answers.
    """

    name: str  # prefix of the problem ids, and metadata["source"] of the problems
    question: str = "question"  # column
    answer: str = "answer"  # column
    id: str | None = None  # column; null: the row number, from 0
    after: str | None = None  # marker in the answer column: the gold is the text after its last occurrence
    boxed: bool = False  # the gold is the last \boxed{} of the answer column
    tolerance: float | str | None = None  # relative to the gold: a number, or the column that holds one; null: none
    unit: str | None = None  # column with the unit of the answer, which is appended to the gold
    where: Mapping[str, Any] = {}  # only rows in which these columns have these values
    file: str | None = None
    hub: str | None = None
    subset: str | None = None  # configuration of the repository
    split: str = "train"  # split of the repository
    revision: str | None = None  # commit of the repository

    def check(self) -> Iterable[str]:
        if self.boxed and self.after is not None:
            yield f"after={self.after!r} and boxed=true are two ways to find the gold; use one of them"
        if isinstance(self.tolerance, float) and not 0 <= self.tolerance < 1:
            yield f"tolerance={self.tolerance} must be in [0, 1): it is relative to the gold"

    def keeps(self, row: Any) -> bool:
        """Whether the row passes the filter ``where``; invalid rows pass, so that they are reported."""
        return not isinstance(row, Mapping) or all(_column(row, name) == value for name, value in self.where.items())

    def problem(self, index: int, row: Any) -> Problem:
        """Return the problem in row number ``index``, from 0.

        Raises:
            InputError: the row is invalid, or a column is missing or holds something else than text and numbers.
        """
        if not isinstance(row, Mapping):
            raise InputError(str(row))
        columns = [self.question, self.answer, *([self.id] if self.id else [])]
        if missing := [column for column in columns if _column(row, column) is None]:
            raise InputError(f"no column {', '.join(missing)}; its columns: {', '.join(map(str, row)) or 'none'}")
        question = _question(_column(row, self.question), self.question)
        if not question:
            raise InputError(f"the question ({self.question}) is empty")
        answers = _column(row, self.answer)
        answers = answers if isinstance(answers, list) else [answers]
        if not answers:
            raise InputError(f"the answer ({self.answer}) is an empty list")
        metadata: dict[str, Any] = {"source": self.name}
        golds = [self._gold(_text(answer, self.answer), row, metadata) for answer in answers]
        if len(golds) > 1:
            metadata["answers"] = tuple(golds[1:])
        if tolerance := self._tolerance(row):
            metadata["tolerance"] = tolerance
        number = index if self.id is None else _text(_column(row, self.id), self.id)
        return Problem(f"{self.name}/{number}", question, golds[0], metadata)

    def _tolerance(self, row: Mapping[str, Any]) -> float:
        """The tolerance of a row, 0 if it has none."""
        if not isinstance(self.tolerance, str):
            return self.tolerance or 0.0
        value = _column(row, self.tolerance)
        try:
            tolerance = float(value or 0)
        except (TypeError, ValueError):
            tolerance = -1.0
        if not 0 <= tolerance < 1:
            raise InputError(f"the tolerance ({self.tolerance}) is {value!r}; it must be a number in [0, 1)")
        return tolerance

    def _gold(self, text: str, row: Mapping[str, Any], metadata: dict[str, Any]) -> str:
        """The gold in the text of an answer; a worked solution before it goes into ``metadata``."""
        if self.after is not None:
            if self.after not in text:
                raise InputError(f"the answer ({self.answer}) does not contain {self.after!r}")
            metadata["solution"], _, text = (part.strip() for part in text.rpartition(self.after))
        elif self.boxed:
            inside = boxed(text)
            if inside is None:
                raise InputError(rf"the answer ({self.answer}) does not contain \boxed{{…}}")
            metadata["solution"], text = text, inside
        unit = _column(row, self.unit) if self.unit is not None else None
        return f"{text} {_text(unit, str(self.unit))}".strip() if unit else text


def _column(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of a path into nested records; None if there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(value: Any, column: str) -> str:
    """The text of a value that is a text or a number.

    Raises:
        InputError: it is a record, a list, a truth value, no finite number, or a text that is not valid Unicode.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        inner = f"; name its field, e.g. {column}.{next(iter(value))}" if isinstance(value, Mapping) and value else ""
        raise InputError(
            f"the column {column} holds a {type(value).__name__}, where a text or a number is needed{inner}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"the column {column} holds {value}, where a text or a finite number is needed")
    text = str(value).strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"the column {column} is not valid Unicode ({error.reason})") from error
    return text


def _question(value: Any, column: str) -> str:
    """The text of a question: a text, or the only user message of a list of messages.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, Mapping) for one in value):
        users = [message.get("content") for message in value if message.get("role") == "user"]
        others = {message.get("role") for message in value} - {"user", "system"}
        if len(users) != 1 or others:
            raise InputError(f"the column {column} holds a conversation, where one user message is needed")
        return _text(users[0], column)
    return _text(value, column)
