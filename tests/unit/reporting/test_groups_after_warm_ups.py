"""Runs whose seeds have warm-ups of their own are one group; warm-ups with other settings are others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src.config import compose
from src.plan import plan
from src.reporting.runs import find_runs, grouped
from src.types import InputError
from src.utils.files import write_json
from tests.unit.reporting.test_report import fake_run


def warm_up(folder: Path, seed: int, steps: int = 2, adapter: Path | None = None, base: str = "base") -> Path:
    """What ``src.warmup`` records of itself. ``base`` is the hash of the weights that it starts from."""
    config = {
        "seed": seed,
        "model": {"name": "tiny", "adapter": str(adapter) if adapter else None},
        "rounds": {"n": 3},
        "imitation": {"steps": steps},
    }
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    write_json(folder / "summary.json", {"seed": seed, "base_sha256": base if adapter is None else f"{base} {seed}"})
    return folder


def run(folder: Path, seed: int, adapter: Path | None, **more: Any) -> Path:
    """A run from an adapter, which the hash of its initial weights covers."""
    settings = {"model": {"adapter": str(adapter) if adapter else None}}
    made = fake_run(folder, seed, settings=settings, **more)
    summary = OmegaConf.load(made / "summary.json")
    summary.base_sha256 = f"base with {adapter}" if adapter else "base"
    write_json(made / "summary.json", OmegaConf.to_container(summary))
    return made


def groups(folder: Path) -> dict[str, list[str]]:
    """Names of the runs by the labels of their groups."""
    return {group.label: [one.path.name for one in group.runs] for group in grouped(find_runs(f"{folder}/run*")[0])}


def test_seeds_with_warm_ups_of_their_own_are_one_group(tmp_path: Path) -> None:
    for seed in (0, 1):
        for steps in (2, 5):
            warm = warm_up(tmp_path / f"warm_{steps}_{seed}", seed, steps)
            run(tmp_path / f"run_{steps}_{seed}", seed, warm)
        run(tmp_path / f"run_{seed}", seed, None)
    assert groups(tmp_path) == {
        "model.adapter=null, warm-up/imitation.steps=none": ["run_0", "run_1"],
        "model.adapter=warm-up, warm-up/imitation.steps=2": ["run_2_0", "run_2_1"],
        "model.adapter=warm-up, warm-up/imitation.steps=5": ["run_5_0", "run_5_1"],
    }


def test_the_label_of_runs_after_one_warm_up_is_that_of_their_own_settings(tmp_path: Path) -> None:
    for seed in (0, 1):
        warm = warm_up(tmp_path / f"warm_{seed}", seed)
        for lr in (1, 2):
            run(tmp_path / f"run_{lr}_{seed}", seed, warm, choices={"reward": f"r{lr}"})
            OmegaConf.save(
                OmegaConf.merge(
                    OmegaConf.load(tmp_path / f"run_{lr}_{seed}/.hydra/config.yaml"), {"reward": {"a": lr}}
                ),
                tmp_path / f"run_{lr}_{seed}/.hydra/config.yaml",
            )
    assert groups(tmp_path) == {"reward=r1": ["run_1_0", "run_1_1"], "reward=r2": ["run_2_0", "run_2_1"]}


def test_a_warm_up_may_start_from_another_one(tmp_path: Path) -> None:
    for seed in (0, 1):
        for steps in (2, 5):
            first = warm_up(tmp_path / f"first_{steps}_{seed}", seed, steps)
            run(tmp_path / f"run_{steps}_{seed}", seed, warm_up(tmp_path / f"second_{steps}_{seed}", seed, 9, first))
    assert groups(tmp_path) == {
        "warm-up/warm-up/imitation.steps=2": ["run_2_0", "run_2_1"],
        "warm-up/warm-up/imitation.steps=5": ["run_5_0", "run_5_1"],
    }


def test_a_warm_up_that_several_seeds_share_is_told_by_its_folder(tmp_path: Path) -> None:
    warm = [warm_up(tmp_path / f"w{seed}", seed) for seed in (0, 1)]
    for seed in (0, 1):
        run(tmp_path / f"run_own_{seed}", seed, warm[seed], choices={"reward": "own"})
        run(tmp_path / f"run_shared_{seed}", seed, warm[0], steps=3)
        file = tmp_path / f"run_shared_{seed}" / ".hydra" / "config.yaml"
        OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), {"train": {"steps": 4}}), file)
    assert sorted(groups(tmp_path).values()) == [["run_own_0", "run_own_1"], ["run_shared_0", "run_shared_1"]]


def test_a_repeated_run_from_a_repeated_warm_up_is_no_new_seed(tmp_path: Path) -> None:
    for number in (1, 2):
        run(tmp_path / f"run_{number}", 0, warm_up(tmp_path / f"warm_{number}", 0))
    runs, left_out = find_runs(f"{tmp_path}/run*")
    assert [one.path.name for one in runs] == ["run_2"]
    assert "has the same settings and seed" in left_out[0]


@pytest.mark.parametrize("case", ["gone", "another command", "another seed", "in a circle", "other weights"])
def test_in_other_cases_the_folder_decides(tmp_path: Path, case: str) -> None:
    for seed in (0, 1):
        warm = warm_up(tmp_path / f"warm_{seed}", seed, base=f"base {seed}" if case == "other weights" else "base")
        file = warm / ".hydra" / "config.yaml"
        if case == "gone":
            shutil.rmtree(warm)
        elif case == "another command":
            OmegaConf.save({"seed": seed, "model": {"name": "tiny"}}, file)
        elif case == "another seed":
            OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), {"seed": 7 + seed}), file)
        elif case == "in a circle":
            OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), {"model": {"adapter": str(warm)}}), file)
        run(tmp_path / f"run_{seed}", seed, warm)
    assert list(groups(tmp_path).values()) == [["run_0"], ["run_1"]]


def test_a_plan_compares_methods_whose_seeds_have_warm_ups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1, 2):
        for steps in (2, 5):
            warm = warm_up(tmp_path / f"warm_{steps}_{seed}", seed, steps)
            marks = [[float((seed + problem + steps) % 3 > 0)] * 2 for problem in range(12)]
            run(tmp_path / f"run_{steps}_{seed}", seed, warm, marks=marks)
    try:
        plan(compose("plan", [f"runs={tmp_path}/run*", "effect=20"]), tmp_path)
    except InputError as error:
        pytest.fail(str(error))
    assert "warm-up/imitation.steps=5" in capsys.readouterr().out
