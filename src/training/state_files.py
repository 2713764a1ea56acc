"""Nested data with tensors as two files that cannot hold code: JSON, and safetensors for the tensors.

A tensor's place in the JSON holds ``{"$tensor": name}``. Tuples, numbers that JSON lacks, and dictionaries with keys
other than texts (an optimizer counts its parameters) are marked in the same way, so that data is read as it was saved.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.types import InputError
from src.utils.files import write_json

MARK = "$"
"""First letter of the keys that mark a value."""


def save_data(values: Mapping[str, Any], file: Path) -> None:
    """Write ``values`` to ``file`` and ``file.safetensors``; the suffix of ``file`` is json.

    Raises:
        TypeError: a value is no number, text, tensor, list, tuple, dictionary or ``None``.
    """
    tensors: dict[str, Tensor] = {}
    text = _encoded(dict(values), "", tensors, {})
    save_file(tensors, file.with_suffix(".safetensors"))
    write_json(file, text)


def load_data(file: Path) -> dict[str, Any]:
    """Read what ``save_data`` wrote; tensors are on the CPU.

    Raises:
        InputError: a file is missing, or is not as ``save_data`` writes it.
    """
    part = file.with_suffix(".safetensors")
    try:
        tensors = load_file(part)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{part}: not a file of tensors ({error})") from error
    try:
        values = _decoded(json.loads(file.read_text(encoding="utf-8")), tensors)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise InputError(f"{file}: not the data of a checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: not the data of a checkpoint (the top is no dictionary)")
    return values


def _encoded(value: Any, name: str, tensors: dict[str, Tensor], known: dict[tuple[Any, ...], str]) -> Any:
    """Return ``value`` as JSON, and put its tensors into ``tensors`` under their dotted names.

    ``known`` holds the names by memory: a tensor at two places (as the tables of 8-bit optimizers) is written once.
    """
    if isinstance(value, Tensor):
        while name in tensors:  # "a.b" may be one key or two
            name += "_"
        memory = value.data_ptr(), value.dtype, value.shape, value.stride(), value.device
        first = known.setdefault(memory, name) if value.numel() else name
        if first == name:
            tensors[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return {MARK + "tensor": first}
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str | int)]:
            raise TypeError(f"{name}: a key that is a {type(odd[0]).__name__} cannot be saved as data")
        pairs = [
            (key, _encoded(one, f"{name}.{key}" if name else str(key), tensors, known)) for key, one in value.items()
        ]
        texts = all(isinstance(key, str) and not key.startswith(MARK) for key in value)
        return dict(pairs) if texts else {MARK + "items": [list(pair) for pair in pairs]}
    if isinstance(value, list | tuple):
        parts = [_encoded(one, f"{name}.{place}", tensors, known) for place, one in enumerate(value)]
        return {MARK + "tuple": parts} if isinstance(value, tuple) else parts
    if isinstance(value, float) and not math.isfinite(value):
        return {MARK + "float": str(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot be saved as data")


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("$tensor", str(name))]:
            return tensors[name]
        case [("$tuple", list(parts))]:
            return tuple(_decoded(one, tensors) for one in parts)
        case [("$float", str(number))]:
            return float(number)
        case [("$items", list(pairs))]:
            return {key: _decoded(one, tensors) for key, one in pairs}
    return {key: _decoded(one, tensors) for key, one in value.items()}
