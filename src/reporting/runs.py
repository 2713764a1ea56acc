"""Read run directories; group runs that differ only in their seed."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src import config as configuration
from src.reporting.evaluations import Name, evaluations
from src.reporting.warmups import WARM_UP, lacks, texts, with_warm_up
from src.types import InputError
from src.utils.files import read_jsonl

EVERYWHERE = ("experiment", "experiment/sweep", "debug")
"""Config groups whose options may set values in every section."""


@dataclass(frozen=True)
class Run:
    """A complete run, read from its directory.

    ``settings`` is flat and unresolved (a value that follows another by interpolation is not a difference of its own),
    without ``seed`` and ``tracking``, which do not distinguish groups. It also holds the hash of the initial weights
    and the origin of the training and test data, so that runs on other data are never grouped. ``find_runs`` puts the
    settings of a seed's own warm-up in place of its folder.
    """

    path: Path
    seed: int
    benchmark: str
    settings: Mapping[str, str]
    choices: Mapping[str, str]
    overridden: frozenset[str]
    summary: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """Key of a group: equal for runs that differ only in their seed."""
        return tuple(sorted(self.settings.items()))

    def evaluations(self, part: str) -> dict[Name, Mapping[str, Any]]:
        """The evaluations ``before`` or ``after`` training, or the ``change``."""
        return evaluations(self.summary, part, self.benchmark)

    def rollouts(self) -> dict[int, Path]:
        """Files of the logged steps, by step."""
        found = {int(file.stem.removeprefix("step_")): file for file in (self.path / "rollouts").glob("step_*.jsonl")}
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, sorted by seed."""

    label: str
    runs: tuple[Run, ...]


def read_run(path: Path) -> Run:
    """Read the run in a directory.

    Raises:
        InputError: not a training run, or not complete.
    """
    config = configuration.load(path)
    if "train" not in config:
        raise InputError(f"{path}: not a training run (its configuration has no train section)")
    if not (path / "summary.json").is_file():
        raise InputError(f"{path}: incomplete (it has no summary.json)")
    summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    metrics = list(read_jsonl(path / "metrics.jsonl"))
    if not summary["complete"] or summary["final"]["step"] != metrics[-1]["step"]:
        raise InputError(
            f"{path}: incomplete (its summary ends at step {summary['final']['step']}, its metrics at step "
            f"{metrics[-1]['step']})"
        )
    benchmark = str(config.benchmark.name)  # interpolations resolved
    raw, given = configuration.written(path)
    return Run(
        path=path,
        seed=int(summary["seed"]),
        benchmark=benchmark,
        settings={**texts(raw), "base_sha256": summary["base_sha256"], **_origins(summary, benchmark)},
        choices={
            name: "none" if choice == "None" else choice
            for name, choice in summary["choices"].items()
            if name != "tracking"
        },
        overridden=frozenset(given),
        summary=summary,
        metrics=metrics,
    )


def _origins(summary: Mapping[str, Any], benchmark: str) -> dict[str, str]:
    """The origin of the training data and of each test split, as far as the summary names them."""
    found = {f"data/{name.split}": one.get("data") for name, one in evaluations(summary, "after", benchmark).items()}
    return {key: origin for key, origin in {"data": summary.get("data"), **found}.items() if origin is not None}


def find_runs(patterns: str | Iterable[str]) -> tuple[list[Run], list[str]]:
    """Find the complete runs that a glob or several match, and explain for every other match why it is left out.

    Of runs with equal settings and equal seed, only the last one (by path) counts, so a repeated run is no new seed.

    Raises:
        InputError: a glob matches nothing, or no match is a complete run.
    """
    found: list[Run] = []
    left_out: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        paths = sorted(map(Path, glob.glob(pattern)), key=lambda path: _natural(str(path)))  # noqa: PTH207 (absolute)
        matches = [path for path in paths if path.name not in configuration.SWEEP_FILES]
        if not matches:
            raise InputError(f"runs={pattern}: nothing matches; name run directories, e.g. runs='outputs/*/*'")
        for path in matches:
            try:
                found.append(read_run(path))
            except InputError as error:
                left_out.append(str(error))
    if not found:
        raise InputError("none of the matches is a complete run:", *left_out)
    runs: dict[Any, Run] = {}
    for run in _with_own_warm_ups(found):
        key = (run.identity, run.seed)
        earlier = runs.pop(key, None)
        if earlier is not None and earlier.path != run.path:
            left_out.append(f"{earlier.path}: has the same settings and seed as {run.path}, which is used instead")
        runs[key] = run
    return list(runs.values()), left_out


def _with_own_warm_ups(runs: Sequence[Run]) -> Iterator[Run]:
    """The runs; where each seed has a warm-up of its own, its settings replace its folder.

    A folder that several seeds share keeps its name: these runs are one group without the others.
    """
    seeds: dict[Any, set[int]] = {}
    for run in runs:
        seeds.setdefault(run.identity, set()).add(run.seed)
    for run in runs:
        own = len(seeds[run.identity]) == 1
        yield replace(run, settings=with_warm_up(run.settings, run.seed)) if own else run


def step_seconds(metrics: Mapping[str, Any]) -> float:
    """Seconds of a training step, from its line of metrics, without validations and checkpoints; of step 0, none."""
    return float(sum(metrics.get(f"time/{phase}", 0.0) for phase in ("rollout", "reward", "train")))


def newest(folder: Path) -> Path:
    """Find the newest complete run in ``folder``, which holds ``<date>/<time>/`` directories.

    Raises:
        InputError: there is none.
    """
    for file in sorted(folder.glob("*/*/summary.json"), reverse=True):
        try:
            return read_run(file.parent).path
        except InputError:  # a warm-up, or a run that is not complete
            continue
    raise InputError(f"{folder}: holds no complete run; make one with python -m src.train")


def grouped(runs: Iterable[Run]) -> list[Group]:
    """Group runs that differ only in ``seed``; label each group by the settings in which the groups differ."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.identity, []).append(run)
    members = [tuple(sorted(group, key=lambda run: run.seed)) for group in groups.values()]
    result = [Group(label, group) for label, group in zip(labels(members), members, strict=True)]
    return sorted(result, key=lambda group: _natural(group.label))


def labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Label each group by the settings in which the groups differ.

    A choice of a config group (``reward=immediate``) stands for the settings that follow from it, unless the command
    line set one of them. The origin of data is shown only if no setting distinguishes two groups. Names are as short as
    possible without being ambiguous.
    """
    firsts = [group[0] for group in groups]
    given = frozenset().union(*(run.overridden for run in firsts))
    settings = _differing([run.settings for run in firsts])
    choices = {
        name: values
        for name, values in _differing([run.choices for run in firsts]).items()
        if any(_covers(name, key) for key in settings)
    }
    candidates = {**choices, **settings}
    told = {
        name: values
        for name, values in candidates.items()
        if (name in given and name not in EVERYWHERE)
        or not any(choice != name and _covers(choice, name) and _follows(values, by) for choice, by in choices.items())
    }
    names = {name: name if name in choices or name.startswith(WARM_UP) else _short(name, settings) for name in told}
    chosen = {name: values for name, values in told.items() if name.partition("/")[0] != "data"}
    for shown, limit in ((chosen, 24), (told, 24), (told, None)):
        result = [
            ", ".join(f"{names[name]}={_value(values[index], limit)}" for name, values in shown.items())
            for index in range(len(groups))
        ]
        if len(set(result)) == len(result):
            break
    return result


def _differing(tables: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for table in tables for name in table)
    columns = {name: [table.get(name, "none") for table in tables] for name in names}
    compared = {name: {table.get(name, "none") for table in tables if not lacks(table, name)} for name in names}
    return {name: values for name, values in columns.items() if len(compared[name]) > 1}


def _covers(choice: str, name: str) -> bool:
    """Whether a config group's option may set ``name``."""
    if choice in EVERYWHERE:
        return name not in EVERYWHERE
    if choice == "reward" and name.startswith("rounds."):  # a reward sets the tree that its credit rule needs
        return True
    return name.startswith((f"{choice}/", choice.replace("/", ".") + "."))


def _follows(values: Sequence[str], by: Sequence[str]) -> bool:
    """Whether equal choices always have equal values."""
    return len(set(zip(by, values, strict=True))) == len(set(by))


def _short(name: str, others: Iterable[str]) -> str:
    parts = name.removesuffix("._target_").split(".")
    known = [other.removesuffix("._target_").split(".") for other in others]
    for length in range(min(2, len(parts)), len(parts)):
        if sum(other[-length:] == parts[-length:] for other in known) == 1:
            return ".".join(parts[-length:])
    return ".".join(parts)


def _value(text: str, limit: int | None) -> str:
    text = " ".join(text.split())
    if limit is None:
        return text
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text):  # a class by its dotted path
        text = text.rpartition(".")[2]
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _natural(text: str) -> list[tuple[bool, float, str]]:
    """Sort key that compares numbers inside a text by value."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(index % 2 == 0, float(part) if index % 2 else 0.0, part) for index, part in enumerate(parts)]
