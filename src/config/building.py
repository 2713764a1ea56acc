"""Building validated sections from plain values, with a readable message for every mistake."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from src.settings import Section
from src.types import InputError

FAILED: Any = object()
"""Placeholder for a section that could not be built."""

MISSING = "???"
"""OmegaConf's marker of a required value that was not given."""


def locate(target: Any) -> Any:
    """Import the section class with a dotted path.

    Raises:
        InputError: the path cannot be imported (the message says why), or is not a concrete subclass of ``Section``.
    """
    if not isinstance(target, str) or "." not in target or not all(part.isidentifier() for part in target.split(".")):
        raise InputError(f"{target!r} is not the dotted path of a class")
    module, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise InputError(f"{target} cannot be imported: {error}") from error
    except (AttributeError, ValueError) as error:
        raise InputError(f"{target}: no such class") from error
    if not (isinstance(kind, type) and issubclass(kind, Section)):
        raise InputError(f"{target} is not a subclass of src.settings.Section, so it cannot be configured")
    if missing := getattr(kind, "__abstractmethods__", None):
        raise InputError(f"{target} is abstract: it does not define {', '.join(sorted(missing))}")
    return kind


def build(values: Any, kind: type[Section] | None = None, place: str = "") -> Any:
    """Build a section from plain values; its class is named by ``_target_``, or is ``kind``.

    ``place`` is the dotted name of the section, which prefixes the names of settings in messages.

    Raises:
        InputError: lists all mistakes.
    """
    errors: list[str] = []
    plain = OmegaConf.to_container(values, resolve=True) if isinstance(values, DictConfig) else values
    built = attempt(plain, kind, place, errors)
    if errors:
        raise InputError(*dict.fromkeys(errors))
    return built


def attempt(values: Any, kind: Any, place: str, errors: list[str]) -> Any:
    """Build a section, inner sections first, and append all mistakes to ``errors``.

    Invalid values are replaced by defaults, or kept if they are only out of bounds, so that rules between the other
    fields are checked too. If neither is possible, the result is ``FAILED``.
    """
    if isinstance(values, list):
        parts = [attempt(value, None, f"{place}[{index}]", errors) for index, value in enumerate(values)]
        return [part for part in parts if part is not FAILED]
    if not isinstance(values, Mapping):
        return values
    if "_target_" in values:
        try:
            kind = locate(values["_target_"])
        except InputError as error:
            errors.append(f"{_join(place, '_target_')}: {error}")
            return FAILED
    elif getattr(kind, "__abstractmethods__", None):
        errors.append(f"{_join(place, '_target_')} is missing; it names the class of the section")
        return FAILED
    fields: dict[str, FieldInfo] = kind.model_fields if kind is not None else {}
    children: dict[str, Any] = {}
    for name, value in values.items():
        if name == "_target_":
            continue
        inner = section_of(kind, name)
        if inner is not None and isinstance(value, Mapping) and _is_mapping(fields[name].annotation):
            items = {key: attempt(part, inner, f"{_join(place, name)}.{key}", errors) for key, part in value.items()}
            children[str(name)] = {key: part for key, part in items.items() if part is not FAILED}
        else:
            children[str(name)] = attempt(value, inner, _join(place, name), errors)
    return children if kind is None else _construct(kind, children, place, errors)


def _construct(kind: type[Section], children: Mapping[str, Any], place: str, errors: list[str]) -> Any:
    """Construct ``kind`` from its fields; append mistakes in fields and in their combination to ``errors``."""
    missing = [name for name, value in children.items() if isinstance(value, str) and value == MISSING]
    errors += [f"{_join(place, name)} has no value; give one with {_join(place, name)}=…" for name in missing]
    left_out = {name for name, value in children.items() if value is FAILED} | set(missing)
    outside: dict[str, Any] = {}  # values of the right type that are out of bounds
    while True:
        given = {name: value for name, value in children.items() if name not in left_out}
        try:
            return kind(**given)
        except ValidationError as error:
            wrong = set()
            for one in error.errors():
                name = str(one["loc"][0]) if one["loc"] else ""
                if one["type"] == "missing" and name in left_out:
                    continue  # it was given, but invalid, and is already reported
                errors += _words(kind, name, place, one, given)
                wrong.add(name)
                if one["type"] in BOUNDS:
                    outside[name] = given[name]
            if not wrong & set(given):  # a broken rule between fields, or a missing required field
                return _unvalidated(kind, given, outside, errors)
            left_out |= wrong


def _unvalidated(kind: type[Section], given: Mapping[str, Any], outside: Mapping[str, Any], errors: list[str]) -> Any:
    """Construct ``kind`` without validation, or return ``FAILED``; append messages of ``check`` to ``errors``."""
    required = {name for name, field in kind.model_fields.items() if field.is_required()}
    if not required <= {*given, *outside}:
        return FAILED
    section = kind.model_construct(**given, **{name: outside[name] for name in required - set(given)})
    with contextlib.suppress(Exception):  # rules may fail on values that are out of bounds
        for error in section.check():
            if error not in errors:
                errors.append(error)
    return section


def _words(kind: type[Section], name: str, place: str, error: Any, given: Mapping[str, Any]) -> list[str]:
    """Translate one pydantic error into messages that name the setting and the valid values."""
    where = _join(place, name)
    if error["type"] == "value_error":
        cause = error["ctx"]["error"]
        return list(cause.problems) if isinstance(cause, InputError) else [f"{where}: {cause}"]
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, list(kind.model_fields), 3, 0.5) or sorted(kind.model_fields)
        return [f"{where}: there is no such setting" + (f"; valid: {', '.join(near)}" if near else "")]
    if error["type"] == "missing":
        return [f"{where} is missing"]
    field = kind.model_fields[name]
    value, words = given.get(name), typed(field)
    bounds = bounded(field) if error["type"] in BOUNDS else ""
    if isinstance(value, Mapping) and len(error["loc"]) > 1 and error["loc"][1] in value:  # an item of a mapping
        item = error["loc"][1]
        where, value, words = _join(where, item), value[item], _type_words(_items(field.annotation))
    return [f"{where}={_shown(value)} must be {bounds}" if bounds else f"{where}={value!r}: must be {words}"]


BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "too_short", "too_long"}


def bounded(field: FieldInfo) -> str:
    """Describe the bounds of a field in words; empty if it has none."""
    bounds = {
        name: getattr(part, name)
        for part in field.metadata
        for name in ("gt", "ge", "lt", "le", "min_length")
        if getattr(part, name, None) is not None
    }
    if "min_length" in bounds:
        return f"{typed(field)}, {bounds['min_length']} of them"
    if not bounds:
        return ""
    low = bounds.get("gt", bounds.get("ge"))
    high = bounds.get("lt", bounds.get("le"))
    if low is not None and high is not None and high < 2**31:
        return f"in {'(' if 'gt' in bounds else '['}{low:g}, {high:g}{')' if 'lt' in bounds else ']'}"
    nullable = ", or null" if type(None) in typing.get_args(field.annotation) else ""
    if high is not None and low is None:
        return f"{'below' if 'lt' in bounds else 'at most'} {high:g}{nullable}"
    return (f"above {low:g}" if "gt" in bounds else f"{low:g} or more") + nullable


def typed(field: FieldInfo) -> str:
    """Describe the type of a field in words."""
    return _type_words(field.annotation)


def _type_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_words(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments)) if len(arguments) > 1 else str(arguments[0])
    if origin is not None and issubclass(origin, Mapping):
        return "a section"
    if origin is not None and issubclass(origin, Sequence):
        inner = _type_words(arguments[0])
        plural = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
        return f"a list of {plural.get(inner, inner)}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    if hint in names:
        return names[hint]
    doc = re.split(r"\.(?:\s|$)", hint.__doc__ or "")[0] if isinstance(hint, type) else ""
    return f"a section for {hint.__name__}" + (f" ({doc[0].lower()}{doc[1:]})" if doc else "")


def section_in(annotation: Any) -> type[Section] | None:
    """Find the section class in a field's type: the type itself, or inside a union or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := section_in(part)) is not None), None)


def section_of(kind: Any, name: str) -> type[Section] | None:
    """Find the section class of the field ``name`` of ``kind``, if it has one."""
    fields = kind.model_fields if kind is not None else {}
    return section_in(fields[name].annotation) if name in fields else None


def sections(section: Section) -> Iterator[Section]:
    """Yield a section and all sections inside it."""
    yield section
    for name in type(section).model_fields:
        value = getattr(section, name, None)
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
        for part in parts:
            if isinstance(part, Section):
                yield from sections(part)


def _is_mapping(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _items(annotation: Any) -> Any:
    """Return the type of a mapping's values."""
    return typing.get_args(annotation)[1] if _is_mapping(annotation) else Any


def _join(place: str, name: Any) -> str:
    return f"{place}.{name}" if place else str(name)


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)
