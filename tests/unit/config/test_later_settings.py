"""Settings that older runs lack: with their defaults, they change neither directories of studies nor groups of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.config import compose, deciding, load, overlay, written
from src.config.runs import LATER, flat
from src.types import InputError


def test_a_later_setting_with_its_default_decides_nothing() -> None:
    (plain,), wrong = deciding("train", ["rounds=1"], [0])
    assert wrong == []
    assert not set(LATER) & set(plain)
    (other,), wrong = deciding("train", ["rounds=1", "evaluation.floor=4", "evaluation.floor_engine=hf"], [0])
    assert wrong == []
    assert other["evaluation.floor_engine"] == "hf"


def older(run: Path, folder: Path) -> Path:
    """The configuration of a run as it was before these settings existed."""
    node = load(run)
    for key in LATER:
        section, _, name = key.partition(".")
        del node[section][name]
    (folder / ".hydra").mkdir()
    OmegaConf.save(node, folder / ".hydra" / "config.yaml")
    (folder / ".hydra" / "overrides.yaml").write_text("[]")
    return folder


def test_runs_with_and_without_a_later_setting_are_equal(small_run: Path, tmp_path: Path) -> None:
    before, now = (written(one)[0] for one in (older(small_run, tmp_path), small_run))
    assert before == now


def test_a_later_setting_can_be_given_for_an_older_run(small_run: Path, tmp_path: Path) -> None:
    run = older(small_run, tmp_path)
    assert set(LATER) <= set(dict(flat(overlay("evaluate", [f"run={run}"]).node)))
    asked = overlay("evaluate", [f"run={run}", "evaluation.floor=2", "evaluation.floor_engine=hf"])
    assert type(asked.settings.evaluation.floor_engine).__name__ == "HF"


def test_an_engine_for_the_floor_is_one_of_the_options() -> None:
    with pytest.raises(InputError, match=r"evaluation\.floor_engine=fast: no such engine; valid: hf, local, vllm"):
        compose("train", ["evaluation.floor=4", "evaluation.floor_engine=fast"])
