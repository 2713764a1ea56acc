"""The configuration of a recorded run is read as it was written, and damage is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config import compose, load, load_choices, load_overrides, recorded
from src.types import InputError
from tests.conftest import SMALL

OVERRIDES = [*SMALL, "tracking=wandb", "tracking.name=r${rounds.n}"]


def test_an_override_with_an_interpolation_is_read_as_it_was_typed(tmp_path: Path) -> None:
    compose("train", OVERRIDES).write(tmp_path)
    assert load_overrides(tmp_path) == OVERRIDES
    assert recorded(tmp_path).settings.tracking.name == "r3"


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("config", b"", load),
        ("config", b"- 1", load),
        ("config", b"seed: [1", load),
        ("config", b"seed: \xff\xfe", load),
        ("config", b"seed: '${'", load),
        ("hydra", b"hydra: {", load_choices),
        ("hydra", b"hydra: {}", load_choices),
        ("overrides", b"- 'a", load_overrides),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, read: object) -> None:
    compose("train", OVERRIDES).write(tmp_path)
    file = tmp_path / ".hydra" / f"{name}.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read(tmp_path)  # type: ignore[operator]
    assert str(refusal.value).startswith(f"{file}: damaged: ")
