"""Refusing code in recorded configurations: a run directory from a stranger is data."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from src.types import InputError

VARIABLE = "MOTIF_PLUGINS"
"""Environment variable that names the plug-in packages whose classes a recorded configuration may use."""

FUNCTION = "function"
"""Setting that names a function to call (``verifier=function``)."""

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
            package = str(value).partition(".")[0]
            if (key == "_target_" and package not in allowed) or (key == FUNCTION and package not in allowed - {"src"}):
                kind = "class" if key == "_target_" else "function"
                yield (
                    f"{name}={value} is a {kind} outside src, and loading it runs its code. If you trust it, "
                    f"name its package: {VARIABLE}={package}"
                )
            yield from _refused(value, name, allowed)
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _refused(value, f"{place}[{index}]", allowed)
    elif isinstance(values, str):
        for resolver, end in _CALL.findall(values):
            if end == "$" or resolver.strip() not in RESOLVERS:
                yield f"{place}={values}: a recorded configuration may only call {', '.join(RESOLVERS)}"
