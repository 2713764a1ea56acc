"""Finding every mistake in a configuration, before any weights load."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from src.config.building import FAILED, attempt, section_of, sections
from src.config.commands import COMMANDS, RunSettings
from src.config.composing import CONF, groups, options, raw
from src.types import InputError


def validated(command: str, node: DictConfig) -> Any:
    """The typed settings of ``command`` from a composed configuration.

    Raises:
        InputError: all mistakes at once: unknown keys, wrong types, values out of bounds, impossible combinations.
    """
    settings, errors = examined(command, node)
    if errors:
        raise InputError(*dict.fromkeys(errors))
    return settings


def examined(command: str, node: DictConfig) -> tuple[Any, list[str]]:
    """The typed settings, as far as they can be built, and everything that is wrong with them. Loads no weights."""
    kind, errors = COMMANDS[command], list[str]()
    values: dict[str, Any] = {}
    for name in map(str, node):
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
    settings = attempt(values, kind, "", errors)
    if settings is FAILED:  # the rules between those sections that could be built are checked all the same
        parts = {name: attempt(value, section_of(kind, name), name, []) for name, value in values.items()}
        settings = kind.model_construct(**{name: None if part is FAILED else part for name, part in parts.items()})
    if isinstance(settings, RunSettings):
        mistaken = bool(errors)
        for section in sections(settings):
            try:
                errors += section.check_run(settings)
            except Exception:
                if not mistaken:  # a rule need not cope with values that are not valid
                    raise
    return settings, errors


def _resolve_verifiers(values: Mapping[str, Any], errors: list[str]) -> None:
    """Replace the names in ``evaluation.also`` by the sections that they stand for: options, or classes."""
    evaluation = values.get("evaluation")
    if not isinstance(evaluation, dict) or not isinstance(evaluation.get("also"), list):
        return
    found = []
    for name in evaluation["also"]:
        if name in options("verifier"):
            found.append(OmegaConf.to_container(OmegaConf.load(CONF / "verifier" / f"{name}.yaml")))
        elif isinstance(name, str) and "." in name:
            found.append({"_target_": name})
        elif isinstance(name, dict):
            found.append(name)
        else:
            errors.append(f"evaluation.also={name}: no such verifier; valid: {', '.join(options('verifier'))}")
    evaluation["also"] = found


def _plain(node: DictConfig, name: str) -> Any:
    """A top-level value with interpolations resolved; ``???`` if it has to be given and is not."""
    if OmegaConf.is_missing(node, name):
        return "???"
    value = node[name]
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=False) if OmegaConf.is_config(value) else value


def explained(command: str, overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The raw configuration with the overrides that Hydra accepts, and the mistakes in the others, in words."""
    try:
        return raw(command, overrides), []
    except Exception:
        good: list[str] = []
        errors = []
        for override in sorted(overrides, key=lambda text: "." in text.partition("=")[0]):  # groups first
            try:
                raw(command, [*good, override])
                good.append(override)
            except Exception as error:
                errors.append(_explain(command, good, override, error))
        return raw(command, good), errors


def _explain(command: str, good: Sequence[str], override: str, error: Exception) -> str:
    """One override's mistake, in words."""
    if isinstance(error, OverrideParseException) or type(error) is HydraException:
        return not_understood(override, error)
    key, _, value = override.lstrip("+~").partition("=")
    group = key.partition("@")[0]
    if isinstance(error, MissingConfigException) or "Could not find" in str(error):
        return f"{override}: {group} has no option {value!r}; valid: {', '.join(options(group)) or 'none'}"
    composed = raw(command, good)
    if group in groups() and value in ("null", "None", ""):
        return f"{override}: a group cannot be null; valid: {', '.join(options(group))}"
    if group in groups() and group.partition("/")[0] not in composed:
        return f"{override}: src.{command} has no {group}; it has {', '.join(map(str, composed))}"
    known = sorted({*_keys(composed), *groups()})
    near = difflib.get_close_matches(key, known, 3, 0.5)
    if group not in known:
        return f"{override}: there is no setting {key!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
    return f"{override}: {str(error.__cause__ or error).splitlines()[0]}"


def not_understood(override: str, error: Exception) -> str:
    """What is wrong with an override that cannot be parsed, in words."""
    return f"{override}: not understood ({str(error).splitlines()[0]}); write key=value, lists as [a,b]"


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for key in config:
        yield prefix + str(key)
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _keys(child, f"{prefix}{key}.")
