"""Composing configurations with Hydra, including ``rounds=<any integer>``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
FOLDERS = [CONF]
"""Folders with options of config groups: the project's own, and those that ``--config-dir`` adds. All are searched."""

OmegaConf.register_new_resolver("package", lambda path: str(ROOT / "src" / path), replace=True)
OmegaConf.register_new_resolver("plain", lambda text, seed=None: _plain(text, seed), replace=True)

LONGEST_NAME = 120
"""Number of characters of a sweep job's folder name, without its number."""


class AnyRounds(ConfigSource):
    """Config source that makes ``rounds=<any integer>`` an option: the strategy ``multi-round`` with that n."""

    @staticmethod
    def scheme() -> str:
        return "rounds"

    def load_config(self, config_path: str) -> ConfigResult:
        n = int(_stem(config_path))
        config = OmegaConf.create({"defaults": ["multi-round", "_self_"], "n": n})
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header={"package": None})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == "rounds"

    def is_config(self, config_path: str) -> bool:
        group, _, _ = config_path.rpartition("/")
        return group == "rounds" and _is_integer(_stem(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return ["1", "2", "3", "4", "5"] if config_path == "rounds" and results_filter != ObjectType.GROUP else []


class SeveralTrackers(ConfigSource):
    """Config source that makes ``tracking=wandb+tensorboard`` an option: both trackers at once."""

    @staticmethod
    def scheme() -> str:
        return "trackers"

    def load_config(self, config_path: str) -> ConfigResult:
        names = _stem(config_path).split("+")
        parts = [*(f"{name}@trackers.{name}" for name in names), "_self_"]
        config = OmegaConf.create({"defaults": parts, "_target_": "src.tracking.several.Several"})
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header={"package": None})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == "tracking"

    def is_config(self, config_path: str) -> bool:
        return config_path.startswith("tracking/") and "+" in config_path

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []


class OwnPaths(SearchPathPlugin):
    """Adds both config sources, and the folders of ``--config-dir``, to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="motif", path="rounds://any")
        search_path.append(provider="motif", path="trackers://several")
        for folder in FOLDERS[1:]:
            search_path.append(provider="motif", path=f"file://{folder}")


def register() -> None:
    """Register the plugins with Hydra. Repeated calls are harmless."""
    for plugin in (AnyRounds, SeveralTrackers, OwnPaths):
        Plugins.instance().register(plugin)


def _plain(overrides: str, seed: Any = None) -> str:
    """Turn a sweep job's overrides into a folder name that needs no quoting in a shell. A long one keeps its seed.

    Settings of trackers are left out, since a continued sweep may change them.
    """
    bare = re.sub(r"(?:^|(?<=,))\++", "", overrides)
    named = [part for part in bare.replace('"', "").split(",") if not part.startswith("tracking.")]
    parts = [re.sub(r"[^\w.+-]+", "-", part) for part in named]
    seeded = [part for part in parts if part.startswith("seed-")]
    if not seeded and seed is not None:
        seeded = [f"seed-{seed}"]
        parts += seeded
    name = "_".join(part for part in parts if part)
    if len(name) <= LONGEST_NAME or not seeded:
        return name[:LONGEST_NAME]
    others = "_".join(part for part in parts if part not in seeded)
    return f"{others[: LONGEST_NAME - len(seeded[-1]) - 1]}_{seeded[-1]}"


def _stem(config_path: str) -> str:
    return config_path.rpartition("/")[2].removesuffix(".yaml")


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def quote_rounds(overrides: Sequence[str]) -> list[str]:
    """Quote the integers of ``rounds=3`` and ``rounds=1,3,5``, since Hydra requires option names to be strings.

    A list of trackers, ``tracking=[wandb,tensorboard]``, becomes the option ``wandb+tensorboard``.
    """
    parser = OverridesParser.create()
    result = []
    for text in overrides:
        if text.startswith("tracking=[") and text.endswith("]"):
            result.append("tracking=" + "+".join(name.strip() for name in text[len("tracking=[") : -1].split(",")))
            continue
        if not text.startswith("rounds="):
            result.append(text)
            continue
        value = parser.parse_override(text).value()
        if isinstance(value, RangeSweep):
            choices: Sequence[Any] = [int(number) for number in value.range()]
        elif isinstance(value, ChoiceSweep):
            choices = value.list
        else:
            choices = [value]
        result.append("rounds=" + ",".join(f'"{getattr(choice, "text", choice)}"' for choice in choices))
    return result


def raw(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of ``python -m src.<command> <overrides>`` without validating it."""
    return composed(command, overrides).node


class Composition(NamedTuple):
    """A configuration that is not validated, and the option chosen in each config group."""

    node: DictConfig
    choices: dict[str, str]


def composed(command: str, overrides: Sequence[str] = ()) -> Composition:
    """Compose as ``raw`` does; return also the chosen options."""
    with _initialized():
        node = hydra_compose(command, quote_rounds(overrides), return_hydra_config=True)
    choices = own_choices(node.hydra.runtime.choices)
    OmegaConf.set_struct(node, False)
    del node["hydra"]
    OmegaConf.set_struct(node, True)
    return Composition(node, choices)


def hydra_section(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose Hydra's own settings: its mode, sweeper, launcher and directories."""
    with _initialized():
        hydra: DictConfig = hydra_compose(command, quote_rounds(overrides), return_hydra_config=True).hydra
    return hydra


def output_directory(command: str, overrides: Sequence[str], number: int | None) -> Path | None:
    """Return the directory that Hydra gives a run, or job ``number`` of a sweep.

    ``None`` if its name contains the current time; such a directory is always new.
    """
    job = [] if number is None else [f"hydra.job.num={number}"]
    hydra = hydra_section(command, [*overrides, *job])
    place = hydra.run if number is None else hydra.sweep
    if "${now:" in str(OmegaConf.to_container(place, resolve=False)):
        return None
    return Path(place.dir) if number is None else Path(place.dir) / str(place.subdir)


@contextmanager
def _initialized() -> Iterator[None]:
    register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()


def own_choices(choices: Mapping[str, Any]) -> dict[str, str]:
    """Drop Hydra's own groups, and groups without a choice, from Hydra's group choices."""
    return {
        group: str(choice) for group, choice in choices.items() if choice is not None and not group.startswith("hydra")
    }


def folder_flags() -> list[str]:
    """The flag with which another process finds the options of this one's ``--config-dir``."""
    return ["--config-dir", str(FOLDERS[-1])] if FOLDERS[1:] else []


def commands() -> list[str]:
    """Return the names of all commands: the configurations at the top of ``conf/``."""
    return sorted(file.stem for file in CONF.glob("*.yaml"))


def groups() -> list[str]:
    """List all config groups; names of nested ones contain a slash."""
    return sorted(str(folder.relative_to(CONF)) for folder in CONF.rglob("*") if folder.is_dir())


def options(group: str) -> list[str]:
    """List the options of a group; ``rounds`` also accepts any integer."""
    names = sorted({file.stem for folder in FOLDERS for file in (folder / group).glob("*.yaml")})
    return ["any integer from 1", *names] if group == "rounds" else names


def option(group: str, name: str) -> Any:
    """Return what the yaml of an option holds, as plain data. Options that build on others are not supported."""
    file = next(folder / group / f"{name}.yaml" for folder in FOLDERS if (folder / group / f"{name}.yaml").is_file())
    return OmegaConf.to_container(OmegaConf.load(file))


def jobs(overrides: Sequence[str]) -> list[list[str]]:
    """Expand the overrides of a sweep into one list of overrides per job."""
    parser = OverridesParser.create()
    parts = []
    for override in parser.parse_overrides(list(overrides)):
        key = override.get_key_element()
        if override.is_sweep_override():
            parts.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            parts.append(
                [
                    f"{key}={override.get_value_element_as_str()}"
                    if override.value() is not None
                    else str(override.input_line)
                ]
            )
    return [list(job) for job in itertools.product(*parts)]
