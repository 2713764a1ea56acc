"""Profiling attributes a step's time to phases and operations, and does not change the step."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.config import compose
from src.types import InputError
from src.utils.profiling import ELSE, OUTSIDE, STEP, kind, milliseconds, table
from tests.conftest import run_small


def event(name: str, start: float, end: float, own: float) -> Any:
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end), self_cpu_time_total=own)


EVENTS = [
    event("aten::mm", 0, 900, 900),  # before the step, so not counted
    event("phase: whole step", 1000, 11000, 0),
    event("phase: rollout", 2000, 6000, 0),
    event("aten::linear", 2100, 3100, 200),
    event("aten::mm", 2200, 3000, 800),
    event("aten::softmax", 3500, 4500, 1000),
    event("phase: training", 7000, 9000, 0),
    event("autograd::engine::evaluate_function: MmBackward0", 7000, 8500, 500),
    event("aten::mm", 7100, 8100, 1000),
    event("aten::copy_", 10000, 10500, 500),
]


def test_time_is_attributed_to_phase_and_kind() -> None:
    assert milliseconds(EVENTS) == {
        "rollout": {"matrix products": 1.0, "softmax and sampling": 1.0, OUTSIDE: 2.0},
        "training": {"autograd's own work": 0.5, "matrix products": 1.0, OUTSIDE: 0.5},
        ELSE: {"copies and layout": 0.5, OUTSIDE: 3.5},
    }


def test_a_repeated_phase_is_one_column() -> None:
    twice = [event("phase: whole step", 0, 10000, 0), event("phase: rollout", 0, 1000, 0)]
    twice.append(event("phase: rollout", 5000, 7000, 0))
    twice.append(event("aten::mm", 6000, 6500, 500))
    assert milliseconds(twice)["rollout"] == {"matrix products": 0.5, OUTSIDE: 2.5}


def test_the_table_adds_up() -> None:
    lines = table(milliseconds(EVENTS))
    assert lines[0] == ["", "rollout", "training", ELSE, STEP]
    assert lines[1] == [OUTSIDE, "2.0 (50 %)", "0.5 (25 %)", "3.5 (88 %)", "6.0 (60 %)"]
    assert lines[2] == ["matrix products", "1.0 (25 %)", "1.0 (50 %)", "-", "2.0 (20 %)"]
    assert lines[-1] == ["all", "4.0 (40 %)", "2.0 (20 %)", "4.0 (40 %)", "10.0"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::bmm", "matrix products"),
        ("mkldnn::_linear_pointwise", "matrix products"),
        ("aten::scaled_dot_product_attention", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::_log_softmax", "softmax and sampling"),
        ("aten::index_put_", "copies and layout"),
        ("aten::t", "copies and layout"),
        ("aten::tanh", "elementwise and sums"),
        ("aten::mul", "elementwise and sums"),
        ("aten::sum", "elementwise and sums"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("aten::_foreach_add_", "optimizer"),
        ("MulBackward0", "autograd's own work"),
        ("cudaLaunchKernel", "other"),
    ],
)
def test_operations_are_classified_by_name(name: str, expected: str) -> None:
    assert kind(name) == expected


def test_profiling_a_step_does_not_change_the_run(tmp_path: Path, small_run: Path) -> None:
    run = run_small(tmp_path / "run", "train.steps=4", "train.profile=2", "seed=0", "evaluation.before=false")
    assert [path.name for path in sorted((run / "profile").iterdir())] == ["profile.md", "trace.json"]
    assert not (small_run / "profile").exists()
    names = {one.get("name") for one in json.loads((run / "profile" / "trace.json").read_text())["traceEvents"]}
    assert {"phase: rollout", "phase: training", "phase: whole step", "aten::mm"} <= names
    page = (run / "profile" / "profile.md").read_text()
    assert all(words in page for words in ("rollout", "training", "matrix products", OUTSIDE))

    def losses(folder: Path) -> list[float]:
        return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]

    assert losses(run) == losses(small_run)


def test_the_profiled_step_must_exist() -> None:
    train = compose("train", ["debug=profile"]).settings.train
    assert 1 < train.profile <= train.steps  # the first step is slower
    with pytest.raises(InputError, match=r"train\.profile=4 must be 0 \(none\), or a step up to train\.steps=3"):
        compose("train", ["debug=profile", "train.profile=4"])
