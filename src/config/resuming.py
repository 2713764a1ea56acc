"""Configurations of earlier runs: continuing one, evaluating one."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from src.config.checking import find_mistakes
from src.config.composing import CONF, options
from src.types import InputError
from src.utils.files import write_text

RESUMABLE = ("resume", "train.steps", "train.threads", "tracking")


def resume(arguments: Sequence[str]) -> tuple[Path, DictConfig, dict[str, str]]:
    """The run, configuration and group choices of ``resume=<run dir>`` with its few allowed overrides.

    Raises:
        InputError: not a run, a run that is complete, or overrides that would make it another run.
    """
    refused = [
        argument
        for argument in arguments
        if argument.partition("=")[0] not in RESUMABLE and not argument.startswith("tracking.")
    ]
    if refused:
        raise InputError(
            *(
                f"{argument}: a resumed run keeps its configuration; it takes {', '.join(RESUMABLE[1:])} only. To "
                "change something else, start a new run."
                for argument in refused
            )
        )
    values = dict(argument.split("=", 1) for argument in arguments)
    run = Path(values.pop("resume"))
    config = load(run)
    if "train" not in config:
        raise InputError(f"{run}: not a training run (its configuration has no train section)")
    steps = config.train.steps
    if "tracking" in values:
        choice = values.pop("tracking")
        if choice not in options("tracking"):
            raise InputError(f"tracking={choice}: no such option; valid: {', '.join(options('tracking'))}")
        OmegaConf.update(config, "tracking", OmegaConf.load(CONF / "tracking" / f"{choice}.yaml"), merge=False)
    for key, value in values.items():
        if OmegaConf.select(config, key, default=MISSING) is MISSING:
            raise InputError(f"{key}={value}: there is no setting {key!r}")
        OmegaConf.update(config, key, _parsed(value))
    mistakes = find_mistakes(config)
    if mistakes:
        raise InputError(*mistakes)
    if (run / "summary.json").exists() and config.train.steps <= steps:
        raise InputError(
            f"{run}: this run is complete ({steps} steps). Continue it with train.steps=<more>, or look at "
            f"{run / 'summary.json'}."
        )
    hydra_file = OmegaConf.load(run / ".hydra" / "hydra.yaml")
    found = OmegaConf.select(hydra_file, "hydra.runtime.choices", default={})
    chosen = {str(group): str(choice) for group, choice in found.items() if choice}
    return run, config, {group: choice for group, choice in chosen.items() if not group.startswith("hydra")}


def extend(run: Path, steps: int) -> None:
    """Write a resumed run's number of steps into its configuration, for whoever reads or resumes it next."""
    config = load(run)
    if config.train.steps != steps:
        config.train.steps = steps
        write_text(run / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))


def written(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The settings of a run, flat and with interpolations as written, and the keys that its command line gave."""
    given = [text.lstrip("+~").partition("=")[0] for text in overrides(run)]
    return dict(_flat(OmegaConf.to_container(load(run), resolve=False))), given


def overrides(run: Path) -> list[str]:
    """The overrides on a run's command line."""
    file = run / ".hydra" / "overrides.yaml"
    return [str(text) for text in OmegaConf.load(file)] if file.is_file() else []


def _parsed(text: str) -> Any:
    return OverridesParser.create().parse_override(f"value={text}").value()


def refuse_changes(run: Path, saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Refuse to continue a checkpoint under a configuration that was edited since.

    Raises:
        InputError: names every setting that differs.
    """
    before, after = dict(_flat(saved)), dict(_flat(present))
    changed = [
        f"{run}: {key} was {before.get(key)!r} when the run began and is {after.get(key)!r} in .hydra/config.yaml; put "
        "it back to continue, or start a new run"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not key.startswith(RESUMABLE)
    ]
    if changed:
        raise InputError(*changed)


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], values


def checkpoint_of(config: DictConfig) -> tuple[Path | None, int]:
    """The checkpoint that ``run`` and ``checkpoint`` name, and its step; none (the base, step 0) without a run.

    What the run trained, and from which adapter, is taken over into ``config.model``.

    Raises:
        InputError: not a run, no such checkpoint, or another model than the run's.
    """
    if config.run is None:
        return None, 0
    from src.training import checkpoint  # loads torch

    run = Path(config.run)
    trained = load(run)
    if trained.model.name != config.model.name:
        raise InputError(
            f"run={run} trained model.name={trained.model.name}, but model.name={config.model.name} is asked for; "
            "choose the run's model"
        )
    if config.checkpoint is None:
        folder = checkpoint.latest(run)
    else:
        folder = run / "checkpoints" / f"step_{config.checkpoint}"
        if not folder.is_dir():
            raise InputError(f"checkpoint={config.checkpoint}: {run} holds {checkpoint.steps(run)}")
    for key in ("lora", "adapter"):
        OmegaConf.update(config, f"model.{key}", OmegaConf.select(trained, f"model.{key}"), merge=False)
    return folder, int(folder.name.removeprefix("step_"))


def load(run: Path) -> DictConfig:
    """The configuration of an earlier run.

    Raises:
        InputError: the folder is not a run.
    """
    file = run / ".hydra" / "config.yaml"
    if not file.is_file():
        raise InputError(
            f"{run}: not a run directory (it has no .hydra/config.yaml). Name one that src.train made, "
            "e.g. outputs/<date>/<time>"
        )
    return typing.cast(DictConfig, OmegaConf.load(file))
