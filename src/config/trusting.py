"""Refusing code in recorded configurations: a run directory from a stranger is data."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from src.types import InputError

VARIABLE = "MOTIF_PLUGINS"
"""Environment variable that names the plug-in packages whose classes a recorded configuration may use."""

FUNCTION = "function"
"""Setting that names a function to call (``verifier=function``)."""

VERIFIERS = "also"
"""Setting that lists verifiers: sections, names of options, or dotted paths of classes (``evaluation.also``)."""

ADDRESSES, LOCAL = ("url", "urls"), ("localhost", "127.0.0.1", "::1")
"""Settings that name an endpoint (``verifier=llm``) or several (``engine=vllm-server``), and the hosts that they may
name without asking."""

PICKLED = "pickled"
"""Setting that allows weights in pickles (``model.pickled``)."""

RESOLVERS = ("package", "plain", "hydra", "now")
"""Resolvers that a recorded configuration may call. Others read the environment or create whole sections."""

_CALL = re.compile(r"\$\{\s*([^}:$]*)([:$])")


def trusted(values: Any, source: str) -> None:
    """Check that a recorded configuration names no class outside ``src`` and the plug-in packages of the user.

    Raises:
        InputError: lists every class and every resolver that is refused.
    """
    allowed = {"src", *os.environ.get(VARIABLE, "").replace(",", " ").split()}
    if problems := list(_refused(values, "", allowed)):
        raise InputError(*(f"{source}: {problem}" for problem in problems))


def _refused(values: Any, place: str, allowed: set[str]) -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            name = f"{place}.{key}" if place else str(key)
            if key == "_target_" and not isinstance(value, str):
                yield f"{name}={value} is not the dotted path of a class"
            elif key == "_target_":
                yield from _foreign(name, value, "class", allowed)
            elif key == FUNCTION:
                yield from _foreign(name, value, "function", allowed - {"src"})
            elif key in ADDRESSES:
                yield from _elsewhere(name, value, allowed)
            elif key == PICKLED and value is not False and PICKLED not in allowed:
                yield f"{name}={value} loads weights from pickles. If you trust them: {VARIABLE}={PICKLED}"
            if key == VERIFIERS:
                yield from _refused_verifiers(value, name, allowed)
            yield from _refused(value, name, allowed)
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _refused(value, f"{place}[{index}]", allowed)
    elif isinstance(values, str):
        for resolver, end in _CALL.findall(values):
            if end == "$" or resolver.strip() not in RESOLVERS:
                yield f"{place}={values}: a recorded configuration may only call {', '.join(RESOLVERS)}"


def _foreign(name: str, path: Any, kind: str, allowed: set[str]) -> Iterator[str]:
    """Refuse a dotted path into a package that is not allowed."""
    package = str(path).partition(".")[0]
    if package not in allowed:
        yield (
            f"{name}={path} is a {kind} outside src, and loading it runs its code. If you trust it, "
            f"name its package: {VARIABLE}={package}"
        )


def _elsewhere(name: str, value: Any, allowed: set[str]) -> Iterator[str]:
    """Refuse addresses on machines that are not allowed."""
    for address in value if isinstance(value, list) else [value]:
        if (host := _host(address)) not in {*allowed, *LOCAL}:
            yield (
                f"{name}={address} is an address on another machine, and a key from the environment would be sent "
                f"there. If you trust it, name its host: {VARIABLE}={host}"
            )


def _host(address: Any) -> str:
    """The host of an address; an interpolation has none, so that it is refused."""
    return (urllib.parse.urlsplit(str(address)).hostname or "") if "$" not in str(address) else ""


def _refused_verifiers(values: Any, place: str, allowed: set[str]) -> Iterator[str]:
    """Check verifiers that are given as text: a dotted path loads a class as ``_target_`` does.

    An interpolation is refused whatever it stands for, since that is only known once it is resolved.
    """
    listed = isinstance(values, list)
    for index, value in enumerate(values if listed else [values]):
        name = f"{place}[{index}]" if listed else place
        if not isinstance(value, str):
            continue
        if "$" in value:
            yield f"{name}={value}: a recorded configuration must name its verifiers, without interpolations"
        elif "." in value:
            yield from _foreign(name, value, "class", allowed)
