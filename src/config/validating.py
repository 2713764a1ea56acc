"""Validation that reports every mistake of a configuration, before any weights load."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException
from yaml import MarkedYAMLError

from src.config.building import FAILED, attempt, locate, section_of, sections
from src.config.composing import CONF, Composition, composed, groups, option, options, raw
from src.settings import RunSettings, Section
from src.types import InputError

PLUGINS = {
    "hydra/launcher": "pip install hydra-{}-launcher",
    "hydra/sweeper": "pip install hydra-{}-sweeper",
}
"""Groups of Hydra whose options come as packages."""


def validated(command: str, node: DictConfig) -> Any:
    """Build the typed settings of ``command`` from a composed configuration.

    Raises:
        InputError: lists all mistakes: unknown keys, wrong types, values out of bounds, invalid combinations.
    """
    settings, errors = examined(command, node)
    if errors:
        raise InputError(*dict.fromkeys(errors))
    return settings


@cache
def command_class(command: str) -> type[Section]:
    """Return the class of a command's settings, which ``conf/<command>.yaml`` names."""
    kind: type[Section] = locate(OmegaConf.select(OmegaConf.load(CONF / f"{command}.yaml"), "_target_"))
    return kind


def examined(command: str, node: DictConfig) -> tuple[Any, list[str]]:
    """Build the typed settings as far as possible, and return them with all mistakes. Loads no weights."""
    kind, errors = command_class(command), list[str]()
    values: dict[str, Any] = {}
    for name in map(str, node):
        if name == "_target_":  # the class is the command's, whatever a recorded configuration says
            continue
        try:
            values[name] = _plain(node, name)
        except InterpolationToMissingValueError as error:
            key = str(error).splitlines()[0].rpartition(": ")[2]
            errors.append(f"{key} has no value; give one with {key}=…")
            values[name] = FAILED
        except OmegaConfBaseException as error:
            errors.append(f"{name}: {str(error).splitlines()[0]}")
            values[name] = FAILED
    _resolve_verifiers(values, errors)
    _resolve_floor_engine(values, errors)
    settings = attempt(values, kind, "", errors)
    if settings is FAILED:  # still check rules between the sections that could be built
        parts = {name: attempt(value, section_of(kind, name), name, []) for name, value in values.items()}
        settings = kind.model_construct(**{name: None if part is FAILED else part for name, part in parts.items()})
    if isinstance(settings, RunSettings):
        mistaken = bool(errors)
        for section in sections(settings):
            try:
                errors += section.check_run(settings)
            except Exception:
                if not mistaken:  # rules may fail on invalid values
                    raise
    return settings, errors


def _resolve_verifiers(values: Mapping[str, Any], errors: list[str]) -> None:
    """Replace the names in ``evaluation.also`` (options of the group verifier, or class paths) by sections."""
    evaluation = values.get("evaluation")
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("also"), list):
        return
    verifiers = []
    for name in evaluation["also"]:
        if name in options("verifier"):
            verifiers.append(option("verifier", name))
        elif isinstance(name, str) and "." in name:
            verifiers.append({"_target_": name})
        elif isinstance(name, dict):
            verifiers.append(name)
        else:
            errors.append(f"evaluation.also={name}: no such verifier; valid: {', '.join(options('verifier'))}")
    evaluation["also"] = verifiers


def _resolve_floor_engine(values: Mapping[str, Any], errors: list[str]) -> None:
    """Replace the name in ``evaluation.floor_engine`` (an option of the group engine) by its section."""
    evaluation = values.get("evaluation")
    if not isinstance(evaluation, dict) or not isinstance(name := evaluation.get("floor_engine"), str):
        return
    if name in options("engine"):
        evaluation["floor_engine"] = option("engine", name)
    else:
        errors.append(f"evaluation.floor_engine={name}: no such engine; valid: {', '.join(options('engine'))}, null")
        evaluation["floor_engine"] = None


def _plain(node: DictConfig, name: str) -> Any:
    """Return a top-level value with interpolations resolved; ``???`` if it is required and not given."""
    if OmegaConf.is_missing(node, name):
        return "???"
    value = node[name]
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=False) if OmegaConf.is_config(value) else value


def explained(command: str, overrides: Sequence[str]) -> tuple[Composition, list[str]]:
    """Compose with the overrides that Hydra accepts; return also a message for each override that it refuses."""
    composition, good, refused = tried(command, overrides)
    errors = [_explain(command, good, override, error) for override, error in refused.items()]
    return composition, [*errors, *_without_effect(composition.node, good)]


def _without_effect(node: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    """A message for each empty mapping given to a setting with entries: Hydra merges both, which changes nothing."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        held = OmegaConf.select(node, key, throw_on_missing=False) if value.replace(" ", "") == "{}" else None
        if isinstance(held, DictConfig) and held:
            first = str(next(iter(held)))
            yield f"{override}: an empty mapping changes nothing; remove entries one by one, e.g. ~{key}.{first}"


def tried(command: str, overrides: Sequence[str]) -> tuple[Composition, list[str], dict[str, Exception]]:
    """Compose with the overrides that Hydra accepts together; return also these, and the others with its errors."""
    try:
        return composed(command, overrides), list(overrides), {}
    except Exception:
        good: list[str] = []
        refused: dict[str, Exception] = {}
        for override in sorted(overrides, key=lambda text: "." in text.partition("=")[0]):  # groups first
            try:
                raw(command, [*good, override])
                good.append(override)
            except Exception as error:
                refused[override] = error
        return composed(command, good), good, refused


def _explain(command: str, good: Sequence[str], override: str, error: Exception) -> str:
    """Say in words why Hydra refused an override."""
    if isinstance(error, OverrideParseException) or type(error) is HydraException or "Ambiguous value" in str(error):
        return not_understood(override, error)
    if isinstance(error, MarkedYAMLError):
        return f"{override}: {not_yaml(error)}"
    key, _, value = override.lstrip("+~").partition("=")
    group = key.partition("@")[0]
    plugin, missing = group, value  # an option may itself choose a plug-in
    if isinstance(error, MissingConfigException) and str(error.missing_cfg_file).startswith(tuple(PLUGINS)):
        plugin, _, missing = str(error.missing_cfg_file).rpartition("/")
        plugin = "/".join(plugin.split("/")[:2])
    if plugin in PLUGINS:
        package = PLUGINS[plugin].format(missing.split("_")[0])
        return f"{override}: {plugin}={missing} is not installed; valid: basic, or install the plug-in ({package})"
    if isinstance(error, MissingConfigException) or "Could not find" in str(error):
        return f"{override}: {group} has no option {value!r}; valid: {', '.join(options(group)) or 'none'}"
    node = raw(command, good)
    if group in groups() and value in ("null", "None", ""):
        return f"{override}: a group cannot be null; valid: {', '.join(options(group))}"
    if group in groups() and group.partition("/")[0] not in node:
        return f"{override}: src.{command} has no section {group}; valid: {', '.join(map(str, node))}"
    known = sorted({*_keys(node), *groups()})
    near = difflib.get_close_matches(key, known, 3, 0.5)
    if group not in known:
        return f"{override}: there is no setting {key!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
    return f"{override}: {str(error.__cause__ or error).splitlines()[0]}"


def not_understood(override: str, error: Exception) -> str:
    """Say in words why an override cannot be parsed."""
    if "Ambiguous value" in str(error):
        return (
            f"{override}: several values, where one run takes one. Sweep over them with -m, write a list as [a,b], or "
            "quote a text that contains commas"
        )
    return f"{override}: cannot be parsed ({str(error).splitlines()[0]}); write key=value, and lists as [a,b]"


def not_yaml(error: MarkedYAMLError) -> str:
    """Say which line of which file of options is not YAML."""
    mark = error.problem_mark or error.context_mark
    place = f"{mark.name}, line {mark.line + 1}: " if mark else ""
    return f"{place}not valid YAML: {error.problem or error.context}"


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for key in config:
        yield prefix + str(key)
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _keys(child, f"{prefix}{key}.")
