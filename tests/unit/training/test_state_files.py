"""The state of a trainer is data: it is read as it was saved, and files that are not such data are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from src.training.state_files import load_data, save_data
from src.types import InputError

TENSORS = st.builds(
    lambda numbers, dtype: torch.tensor(numbers).to(dtype),
    st.lists(st.integers(0, 9), max_size=3),
    st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.int64]),
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NESTED = st.recursive(
    PLAIN | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.sampled_from(["$tensor", "a.b"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Equality that also compares types, tensors and NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@given(st.dictionaries(st.text(max_size=5), NESTED, max_size=4))
def test_data_is_read_as_it_was_saved(values: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        save_data(values, Path(folder) / "state.json")
        assert same(load_data(Path(folder) / "state.json"), values)
        json.loads((Path(folder) / "state.json").read_text(), parse_constant=pytest.fail)  # JSON of every reader


def test_tensors_of_one_memory_are_written_once_and_views_alone(tmp_path: Path) -> None:
    table = torch.arange(6.0)
    values = {"a": table, "b": table, "part": table[2:4], "turned": table.view(2, 3).T}
    save_data(values, tmp_path / "state.json")
    assert same(load_data(tmp_path / "state.json"), values)
    assert sorted(load_file(tmp_path / "state.safetensors")) == ["a", "part", "turned"]


def test_names_with_dots_do_not_collide(tmp_path: Path) -> None:
    values = {
        "a.b": torch.zeros(1),
        "a": {"b": torch.ones(1)},
        "": torch.ones(2),
        "x": {0: torch.ones(3), "0": torch.zeros(3)},
    }
    save_data(values, tmp_path / "state.json")
    assert same(load_data(tmp_path / "state.json"), values)


def test_objects_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"a\.0: a PosixPath cannot be saved as data"):
        save_data({"a": [tmp_path]}, tmp_path / "state.json")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"a": {"$tensor": "b"}}', '{"a": {"$float": "x"}}', '{"a": {"$items": [1]}}', "[" * 10**5],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    save_file({}, tmp_path / "state.safetensors")
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match=r"state\.json: not the data of a checkpoint"):
        load_data(tmp_path / "state.json")
    (tmp_path / "state.safetensors").write_text("x")
    with pytest.raises(InputError, match=r"state\.safetensors: not a file of tensors"):
        load_data(tmp_path / "state.json")
