"""Configurations of recorded runs: resuming a run (``resume=``) and using its trained model (``run=``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.composing import groups, raw
from src.config.config import Config
from src.config.migrating import migrated
from src.config.reading import load, load_choices, load_overrides
from src.config.validating import examined, explained, not_understood, validated
from src.types import InputError
from src.utils.files import write_text

SERVERS = "engine.urls"
"""Setting with the addresses of the servers of ``engine=vllm-server``, which may be others on a resume."""

LATER: dict[str, Any] = {"evaluation.floor_engine": None, "evaluation.at_start": False}
"""Settings that older runs lack, with defaults that leave a run as it was. With these values they are left out where
runs are told apart: they change neither the directories of studies nor the groups of a report."""

RESUMABLE = ("resume", "train.steps", "train.threads", "train.max_time", SERVERS, "tracking")

TRAINED = ("model.name", "model.revision", "model.lora", "model.adapter")
"""Settings that the trained weights depend on; they cannot be overridden with ``run=``."""

EVERYWHERE = ("experiment", "experiment/sweep", "debug")
"""Groups whose options may set values in any section."""


def recorded(run: Path) -> Config[Any]:
    """Load and validate the configuration of a training run.

    Raises:
        InputError: the folder is not a training run, or its settings are invalid on this machine.
    """
    node = load(run)
    if "train" not in node:
        raise InputError(f"{run}: not a training run (its configuration has no train section)")
    return Config("train", validated("train", node), node, load_choices(run), load_overrides(run))


def resume(arguments: Sequence[str]) -> tuple[Path, Config[Any]]:
    """Return the directory of ``resume=<run dir>`` and its configuration, with the overrides that a resume allows.

    Raises:
        InputError: the folder is not a run, the run is complete, or an override is not allowed or cannot be parsed.
    """
    if missing := [argument for argument in arguments if "=" not in argument]:
        raise InputError(*(f"{argument}: no value is given; write {argument}=<value>" for argument in missing))
    refused = [
        argument
        for argument in arguments
        if argument.partition("=")[0] not in RESUMABLE and not argument.startswith("tracking.")
    ]
    if refused:
        raise InputError(
            *(
                f"{argument}: a resumed run keeps its configuration; only {', '.join(RESUMABLE[1:])} can change. "
                "Start a new run to change other settings."
                for argument in refused
            )
        )
    values = dict(argument.split("=", 1) for argument in arguments)
    run = Path(values.pop("resume"))
    node = load(run, [name for name in (SERVERS,) if name in values])  # addresses that are replaced need no trust
    if "train" not in node:
        raise InputError(f"{run}: not a training run (its configuration has no train section)")
    steps = node.train.steps
    if "tracking" in values:
        (option, _), errors = explained("train", [f"tracking={values.pop('tracking')}"])
        if errors:
            raise InputError(*errors)
        OmegaConf.update(node, "tracking", option.tracking, merge=False)
    for key, value in values.items():
        known = key in RESUMABLE or OmegaConf.select(node, key, default=None, throw_on_missing=False) is not None
        if not known and key not in dict(flat(node)):
            raise InputError(f"{key}={value}: there is no setting {key!r}")
        OmegaConf.update(node, key, _parsed(f"{key}={value}"), force_add=True)  # older runs lack newer settings
    if isinstance(node.train.steps, int) and node.train.steps != steps:
        _extend(run, node, steps)
    settings = validated("train", node)
    if (run / "summary.json").exists() and node.train.steps <= steps:
        raise InputError(
            f"{run}: this run is complete ({steps} steps). Continue it with a larger train.steps, or see "
            f"{run / 'summary.json'}."
        )
    return run, Config("train", settings, node, load_choices(run), load_overrides(run))


def _extend(run: Path, node: DictConfig, steps: int) -> None:
    """Pin the length of the learning-rate schedule of a run whose ``train.steps`` changes.

    Raises:
        InputError: the learning rate would be 0 in all additional steps.
    """
    if node.optimizer.get("steps") is not None:
        return
    if node.optimizer.get("schedule") == "constant" and not node.optimizer.get("warmup"):
        return
    if node.train.steps > steps and node.optimizer.get("schedule") != "constant" and not node.optimizer.get("final"):
        raise InputError(
            f"{run}: train.steps={node.train.steps} adds steps after the schedule (optimizer.schedule="
            f"{node.optimizer.schedule} over {steps} steps) has reached a learning rate of 0 (optimizer.final=0), so "
            "nothing would be learned. Start a new run with more steps."
        )
    OmegaConf.update(node, "optimizer.steps", steps, force_add=True)


def store(run: Path, config: Config[Any]) -> None:
    """Write the changed configuration of a resumed run to its ``.hydra/config.yaml``."""
    write_text(run / ".hydra" / "config.yaml", OmegaConf.to_yaml(config.node))


def refuse_changes(run: Path, saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Check that a run's configuration still equals the one saved in its checkpoint.

    Raises:
        InputError: names every setting that differs.
    """
    before, after = dict(flat(migrated(saved))), dict(flat(present))
    free = (*RESUMABLE, "optimizer.steps", "_target_")
    changed = [
        f"{run}: {key} was {before.get(key)!r} when the run began and is {after.get(key)!r} in .hydra/config.yaml; "
        "restore the old value to resume, or start a new run"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not key.startswith(free)
    ]
    if changed:
        raise InputError(*changed)


def overlay(command: str, overrides: Sequence[str]) -> Config[Any]:
    """Overlay the command line on the recorded configuration of ``run=<run dir>``.

    ``rounds=<n>`` changes only the number of rounds and keeps the run's carry rule, budgets and ending. Any other group
    choice replaces its whole section.

    Raises:
        InputError: the folder is not a run, an override is invalid, or an override contradicts the trained weights.
    """
    parser, parsed, errors = OverridesParser.create(), list[Override](), list[str]()
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            errors.append(not_understood(text, error))
    runs = [str(one.value()) for one in parsed if one.key_or_group == "run"]
    if not runs:
        raise InputError(*errors, "run= names no run directory")
    run = Path(runs[-1])
    base = load(run)
    own = raw(command)
    node = OmegaConf.create({})
    for name in map(str, own):
        place = base if name in base and name not in ("run", "checkpoint", "out", "_target_") else own
        node[name] = place._get_node(name)
    has = dict(flat(node))
    for key, default in LATER.items():
        if key.partition(".")[0] in node and key not in has:
            OmegaConf.update(node, key, default, force_add=True)
    choices = {group: choice for group, choice in load_choices(run).items() if group.partition("/")[0] in node}
    before: Any = OmegaConf.create(OmegaConf.to_container(node, resolve=False))
    known = groups()
    for override in sorted(parsed, key=lambda one: _order(one, known)):
        try:
            _apply(command, node, override, known, choices)
        except (InputError, OmegaConfBaseException) as error:
            errors.append(str(error).splitlines()[0])
    settings, more = examined(command, node)
    try:
        changed = differences(before, node, ("run", "checkpoint", "threads", "question", "out"))
    except OmegaConfBaseException:  # an unresolvable interpolation; ``more`` already reports it
        changed = {}
    errors += [
        f"{key}={now!r}: run={run} was trained with {was!r}; drop the override, or evaluate without run="
        for key, (was, now) in changed.items()
        if key.startswith(TRAINED)
    ]
    if errors or more:
        raise InputError(*dict.fromkeys([*errors, *more]))
    return Config(command, settings, node, choices, list(overrides), changed)


def _order(override: Override, known: Sequence[str]) -> tuple[bool, int]:
    """Sort key of overrides, as in Hydra: groups before values, and a group before its nested groups."""
    return override.key_or_group not in known, override.key_or_group.count("/")


def _apply(command: str, node: DictConfig, override: Override, known: Sequence[str], choices: dict[str, str]) -> None:
    """Apply one override to ``node`` and ``choices``.

    Raises:
        InputError: the override names an unknown setting or option.
    """
    group, value, text = override.key_or_group, override.value(), str(override.input_line)
    if group.startswith("hydra"):
        return
    if override.is_sweep_override():
        raise InputError(f"{text}: several values are a sweep, which needs -m; give one value")
    if group == "rounds" and str(value).isdigit():
        node.rounds.n = int(str(value))
        if "branching" in node.rounds:
            node.rounds.branching = None
        choices["rounds"] = str(value)
    elif group in known and not override.is_delete():
        (option, found), errors = explained(command, [text])
        if errors:
            raise InputError(*errors)
        if group in EVERYWHERE:
            for key, (_, now) in differences(raw(command), option, ()).items():
                OmegaConf.update(node, key, now, force_add=True)
        else:
            path = (override.package or group).replace("/", ".")
            OmegaConf.update(node, path, OmegaConf.select(option, path), merge=False, force_add=True)
        for name in [name for name in choices if name.startswith(f"{group}/")]:
            del choices[name]
        choices |= {name: one for name, one in found.items() if name.startswith(f"{group}/")}
        choices[group] = str(value)
    elif override.is_delete():
        parent, _, name = group.rpartition(".")
        place = OmegaConf.select(node, parent) if parent else node
        if place is None or name not in place:
            raise InputError(f"{text}: there is no setting {group!r}")
        del place[name]
    else:
        keys = dict(flat(node))
        exists = group in keys or any(key.startswith(f"{group}.") for key in keys)
        if not exists and not override.is_add() and not override.is_force_add():
            near = difflib.get_close_matches(group, [*keys, *known], 3, 0.5)
            raise InputError(
                f"{text}: there is no setting {group!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
            )
        OmegaConf.update(node, group, value, merge=False, force_add=True)


def differences(before: DictConfig, after: DictConfig, without: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by dotted name, as (before, after), with interpolations resolved."""
    old, new = (
        dict(flat(OmegaConf.to_container(node, resolve=True, throw_on_missing=False))) for node in (before, after)
    )
    return {
        key: (old.get(key), new.get(key))
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and key.partition(".")[0] not in without
    }


def written(run: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a run's settings (flat, interpolations unresolved) and the keys that its command line set."""
    given = [text.lstrip("+~").partition("=")[0] for text in load_overrides(run)]
    settings = telling(OmegaConf.to_container(load(run), resolve=False))
    settings.pop("_target_", None)  # the class of the command's settings
    return settings, given


def telling(values: Any) -> dict[str, Any]:
    """The settings that tell runs apart, flat: all but ``LATER`` ones that have their default."""
    return {key: value for key, value in flat(values) if (key, value) not in LATER.items()}


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with their dotted names; a nested empty mapping counts as a leaf."""
    if isinstance(values, DictConfig):
        values = OmegaConf.to_container(values, resolve=False)
    if isinstance(values, Mapping) and (values or not prefix):
        for key, value in values.items():
            yield from flat(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], values


def _parsed(override: str) -> Any:
    """The value of an override.

    Raises:
        InputError: it cannot be parsed, or gives several values.
    """
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise InputError(not_understood(override, error)) from error
    if parsed.is_sweep_override():
        raise InputError(f"{override}: several values, but a run goes on with one; write a list as [a,b]")
    return parsed.value()
