"""From sections to objects: a section with a ``_target_`` is a class and its fields."""

from __future__ import annotations

import importlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.composing import CONF, ROOT, options
from src.types import InputError, Problem, Scorer


def locate(target: str) -> Any:
    """The class or function that a dotted path names; says why where it cannot be imported."""
    if not isinstance(target, str) or "." not in target:
        raise InputError(f"{target!r} is not the dotted path of a class")
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise InputError(f"{target} cannot be imported: {error}") from error
    except (AttributeError, ValueError) as error:
        raise InputError(f"{target}: no such class") from error


def build(node: Any, kind: type | None = None, **extra: Any) -> Any:
    """The object that a section describes: nested sections with a ``_target_`` first, then the class with its
    fields."""
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    return _build(values, kind, extra)


def _build(values: Any, kind: Any, extra: Mapping[str, Any]) -> Any:
    if isinstance(values, Mapping) and "_target_" in values:
        kind = locate(values["_target_"])
    hints = typing.get_type_hints(kind) if is_dataclass(kind) else {}
    if isinstance(values, Mapping):
        built = {
            key: _build(value, dataclass_of(hints.get(key)), {})
            for key, value in values.items()
            if key != "_target_" and not (is_dataclass(kind) and key not in hints)
        }
        return kind(**built, **extra) if isinstance(kind, type) and kind is not dict else built
    if isinstance(values, list):
        return [_build(value, None, {}) for value in values]
    return values


def dataclass_of(hint: Any) -> Any:
    """The dataclass that a field's type names, also where the field may be null instead; ``None`` for all others."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return next((kind for kind in (typing.get_args(hint) if union else (hint,)) if is_dataclass(kind)), None)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, interpolations resolved."""
    return typing.cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))


def credit_rule(name: Any) -> Any:
    """The credit rule of ``reward.credit``: a file of src/credit, a class by its dotted path, or a section."""
    if isinstance(name, (DictConfig, Mapping)):
        return build(name)
    if isinstance(name, str) and "." in name:
        rule = locate(name)
        if not hasattr(rule, "rows"):
            raise InputError(f"reward.credit={name}: is no credit rule (it has no method rows)")
        return rule()
    files = sorted(
        file.stem for file in (ROOT / "src" / "credit").glob("*.py") if file.stem not in ("__init__", "base")
    )
    if name not in files:
        raise InputError(
            f"reward.credit={name}: no such rule; valid: {', '.join(files)}, or a class by its dotted path"
        )
    return locate(f"src.credit.{name}.{name.title().replace('_', '')}")()


def verifier(name: Any) -> Any:
    """The verifier that ``evaluation.also`` names: an option of conf/verifier, or a class by its dotted path."""
    if name in options("verifier"):
        return build(OmegaConf.load(CONF / "verifier" / f"{name}.yaml"))
    if not isinstance(name, str) or "." not in name:
        raise InputError(f"evaluation.also={name}: no such verifier; valid: {', '.join(options('verifier'))}")
    kind = locate(name)
    if not hasattr(kind, "scorer"):
        raise InputError(f"evaluation.also={name}: is no verifier (it has no method scorer)")
    return kind()


def scorers(config: DictConfig, benchmark: Any, problems: Sequence[Problem]) -> dict[str, Scorer]:
    """The judges by name: that of ``verifier`` first, then those of ``evaluation.also``.

    Raises:
        InputError: one of them needs golds that some problems do not have.
    """
    judges = [build(config.verifier), *map(verifier, config.evaluation.also)]
    blank = next((problem.id for problem in problems if not problem.answer), None)
    if blank is not None and (needy := [judge.name for judge in judges if judge.needs_gold]):
        raise InputError(
            f"{blank} of benchmark={benchmark.name} has no gold answer: verifier={needy[0]} cannot judge it"
        )
    return {judge.name: judge.scorer(benchmark.score) for judge in judges}
