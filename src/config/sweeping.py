"""Running a sweep: where its jobs go, whether it continues one that was cut, and what it ends with."""

from __future__ import annotations

import glob
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser

from src.config import sweep_table
from src.config.composing import hydra_section, output_directory
from src.config.config import Config
from src.config.directories import CHANGEABLE, refuse_used
from src.config.job_records import RECORD
from src.config.job_records import read as read_record
from src.config.requests import Request
from src.types import InputError
from src.utils.files import write_json
from src.utils.run_lock import locked, refuse_second_writer

SWEEP = "sweep.json"
"""File of a sweep's directory: the command line, and whether the sweep has come to its end."""

SWEEP_FILES = (SWEEP, sweep_table.TABLE, "multirun.yaml", "optimization_results.yaml")
"""Files of a sweep's directory, beside those of its jobs; the last two are Hydra's and Optuna's."""

NOW = re.compile(r"\$\{now:([^}]*)\}")
"""The current time in a directory's name."""


@dataclass(frozen=True)
class Sweep:
    """A sweep of a command.

    Attributes:
        arguments: the command line, without the command.
        marked: overrides that Hydra gets with "++", which changes the names of directories.
    """

    command: str
    arguments: Sequence[str]
    request: Request
    configs: Sequence[Config[Any]]
    marked: Sequence[str] = ()

    def run(self, hydra: Callable[[Sequence[str]], Any]) -> int:
        """Run the jobs with ``hydra``, which takes further overrides. Returns the exit code: the first failed job's.

        A sweep of the same command line that was cut, in a directory named after the time, is continued.

        Raises:
            InputError: a directory holds another run, or another process writes to it.
            SystemExit: a signal stopped the sweep.
        """
        raw = self.request.directory
        cut = self._cut(raw) if NOW.search(raw) else None
        place, further = Path(raw), []
        if NOW.search(raw):
            raw = str(cut) if cut else NOW.sub(lambda found: datetime.now().strftime(found[1]), raw)
            place, further = Path(raw), [f"hydra.sweep.dir={quoted(raw)}"]
        elif "${" in raw:  # a directory for some of the jobs each; the sweep's own files are in the first job's
            place = Path(str(hydra_section(self.command, self.request.jobs[0]).sweep.dir))
        directories = self._free(further)
        with locked(place):
            record = {"command": self.command, "arguments": self._lasting, "ended": False}
            write_json(place / SWEEP, record)
            print(f"Sweep of {len(directories) or 'searched'} jobs in {place}")
            if cut:
                print("It goes on with the sweep of this command that was cut; hydra.sweep.dir=<new> starts another.")
            code = 1
            try:
                hydra(further)
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
                if isinstance(stop.code, str):
                    print(stop.code, file=sys.stderr)
                if code > 128:
                    raise
            finally:
                outcomes = self._outcomes(place, directories)
                whole = all(one.status in ("complete", "failed") for one in outcomes)
                whole = bool(outcomes) and whole and not (self.request.search and code)
                self._conclude(outcomes, place, whole)
                if whole:
                    write_json(place / SWEEP, {**record, "ended": True})
        return next((one.code for one in outcomes if one.code), code or (0 if whole else 1))

    @property
    def _lasting(self) -> list[str]:
        return [text for text in self.arguments if not text.startswith("hydra.sweep.dir=")]

    def _cut(self, raw: str) -> Path | None:
        """The newest sweep of the same command line, if it was cut and its jobs have the settings of today."""
        for name in sorted(glob.glob(f"{_pattern(raw)}/{SWEEP}"), reverse=True):  # noqa: PTH207 (may be absolute)
            file = Path(name)
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:  # cut while it was written, before any job
                continue
            if (record.get("command"), record.get("arguments")) != (self.command, self._lasting):
                continue
            try:
                refuse_second_writer(file.parent)
                self._free([f"hydra.sweep.dir={quoted(str(file.parent))}"])
            except InputError:  # it runs elsewhere, or an option has changed since
                return None
            return None if record.get("ended") else file.parent
        return None

    def _free(self, further: Sequence[str]) -> list[Path | None]:
        """Check the jobs' directories; returns them by number. A search does not know its directories."""
        if self.request.search:
            return []
        jobs = [[f"++{text}" if text in self.marked else text for text in job] for job in self.request.jobs]
        overrides = [[*further, *job] for job in jobs]
        directories = [output_directory(self.command, job, number) for number, job in enumerate(overrides)]
        refuse_used(directories, self.configs)
        return directories

    def _outcomes(self, place: Path, directories: Sequence[Path | None]) -> list[sweep_table.Outcome]:
        if directories and None not in directories:
            pairs = zip(self.request.jobs, directories, strict=True)
            return [
                sweep_table.outcome(number, job, directory)
                for number, (job, directory) in enumerate(pairs)
                if directory is not None
            ]
        folders = [file.parent for pattern in (f"*/{RECORD}", f"*/*/{RECORD}") for file in place.glob(pattern)]
        records = [(read_record(folder), folder) for folder in folders]
        found = [sweep_table.outcome(one["number"], one["overrides"], folder) for one, folder in records if one]
        return sorted(found, key=lambda one: one.number)

    def _conclude(self, outcomes: Sequence[sweep_table.Outcome], place: Path, whole: bool) -> None:
        if outcomes:
            sweep_table.write(outcomes, place)
            sweep_table.show(outcomes, place)
        done = [one for one in outcomes if one.status == "complete"]
        if not whole:
            print(
                f"The sweep is not complete. Continue it with the same command, or: {continuing(self.command, place)}"
            )
        elif len(done) < len(outcomes):
            print(f"Try the failed jobs again: {continuing(self.command, place)}")
        if any(one.summary for one in done):
            print(f"Tables and plots: python -m src.report runs={shlex.quote(f'{place}/*')} out=report")
        print(f"Everything is in {place}; the table with all evaluations is {place / sweep_table.TABLE}")


def refuse_without_objective(command: str, configs: Sequence[Config[Any]]) -> None:
    """Check that the jobs of a search have an objective: the validation accuracy of the reported weights.

    Raises:
        InputError: the command does not train, or its jobs never evaluate on the validation split.
    """
    if command != "train":
        raise InputError(f"src.{command} has no objective to search with; only the jobs of src.train have")
    if any(not config.settings.evaluation.every for config in configs):
        raise InputError("evaluation.every=0: a search maximizes validation accuracy; valid: 1 or more")


def continuing(command: str, place: Path) -> str:
    """The command that continues a sweep."""
    return f"python -m src.{command} {shlex.quote(f'resume={place}')}"


def quoted(text: str) -> str:
    """Quote a text as a value for Hydra."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_sweep(directory: Path) -> bool:
    """Whether a directory is that of a sweep."""
    return (directory / SWEEP).is_file()


def recorded_arguments(place: Path, command: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of a recorded sweep, with its directory and the further ``arguments``.

    Raises:
        InputError: the sweep is another command's, its record is damaged, or an argument would change its jobs.
    """
    try:
        record = json.loads((place / SWEEP).read_text(encoding="utf-8"))
        given, owner = [str(text) for text in record["arguments"]], str(record["command"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place / SWEEP}: damaged; run the sweep's command with hydra.sweep.dir={place}") from error
    if owner != command:
        raise InputError(f"{place}: a sweep of src.{owner}; continue it with {continuing(owner, place)}")
    taken = (*CHANGEABLE, "hydra.launcher")
    sections = tuple(f"{name}." for name in taken)
    refused = [text for text in arguments if not f"{text.partition('=')[0]}.".startswith(sections)]
    if refused:
        raise InputError(
            *(
                f"{text}: a continued sweep keeps its settings; only {', '.join(taken)} can change. Start another "
                "sweep to change others."
                for text in refused
            )
        )
    further = [*arguments, f"hydra.sweep.dir={quoted(str(place))}"]
    return inserted(given, get_args_parser().parse_args(given).overrides, further)


def inserted(arguments: Sequence[str], overrides: Sequence[str], further: Sequence[str]) -> list[str]:
    """Insert ``further`` overrides into a command line after the last of its ``overrides``: flags may follow those."""
    last = len(arguments) - 1 - list(arguments)[::-1].index(overrides[-1]) if overrides else -1
    return [*arguments[: last + 1], *further, *arguments[last + 1 :]]


def _pattern(raw: str) -> str:
    """Glob for all directories that a configured directory with interpolations can stand for."""
    parts = re.split(r"(\$\{[^}]*\})", raw)
    stars = [
        "/".join("*" * (part.count("/") + 1)) if index % 2 else glob.escape(part) for index, part in enumerate(parts)
    ]
    return "".join(stars)
