"""Weights in checkpoints of strangers: pickles and code beside them never run, are refused, and nothing is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from src.models.loading import load_merged, load_policy
from src.models.settings import Lora, ModelSettings
from src.types import InputError
from tests.helpers.payload import Payload


def model(lora: Lora | None) -> ModelSettings:
    return ModelSettings(name="embedded:tiny", context=64, round_tokens=8, dtype="float32", lora=lora)


@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.parametrize("load", [load_policy, load_merged])
def test_a_pickled_adapter_in_a_checkpoint_is_refused(tmp_path: Path, load: Any, planted: bool) -> None:
    settings, mark = model(Lora(r=2, alpha=4, targets=["q_proj"])), tmp_path / "ran"
    load_policy(settings, 0).save(tmp_path)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(file) | ({"x": Payload(mark)} if planted else {}), file.with_name("adapter_model.bin"))
    file.unlink()
    with pytest.raises(InputError, match=r"adapter_model\.bin\) can run code"):
        load_policy(settings, 0, saved=tmp_path) if load is load_policy else load_merged(settings, tmp_path)
    assert not mark.exists()


def test_code_in_a_checkpoint_is_not_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, folder = tmp_path / "ran", tmp_path / "model"
    load_policy(model(None), 0).save(tmp_path)
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass X: pass\n", encoding="utf-8")
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values |= {"auto_map": {"AutoConfig": "evil.X"}, "model_type": "strange"}
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_policy(model(None), 0, saved=tmp_path)
    assert not asked
    assert not mark.exists()
