"""Choosing and verifying the checkpoints of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.types import InputError
from src.utils.checkpoints import broken, checksum, chosen, intact_best, latest, step_of, steps


def checkpoint(run: Path, name: str, **about: float) -> Path:
    """Write a checkpoint with one file and its manifest; ``about`` is the content of step.json."""
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    (folder / "weights").write_text(name)
    if about:
        (folder / "step.json").write_text(json.dumps(about))
    sums = {file.name: checksum(file) for file in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps(sums))
    return folder


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints of steps 4, 8 and 12; step 8 is the best."""
    for step in (4, 12, 8):
        checkpoint(tmp_path, f"step_{step}")
    checkpoint(tmp_path, "best", step=8, validation_accuracy=0.5)
    return tmp_path


def summary(run: Path, **values: object) -> None:
    (run / "summary.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("asked", "name", "step"),
    [
        ("best", "best", 8),
        ("latest", "step_12", 12),
        (4, "step_4", 4),
        ("4", "step_4", 4),
        (8, "step_8", 8),
        (12, "step_12", 12),
    ],
)
@pytest.mark.parametrize("reported", [None, {"best": {}}, {"best": {"step": 8, "accuracy": 0.5}}])
def test_an_explicit_checkpoint_overrides_the_summary(run, asked, name, step, reported):
    if reported is not None:
        summary(run, **reported)
    folder = chosen(run, asked)
    assert folder == run / "checkpoints" / name
    assert step_of(folder) == step


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        (None, "step_12"),  # the run is not complete
        ({}, "step_12"),  # a summary of an older run, without this key
        ({"best": None}, "step_12"),
        ({"best": {}}, "step_12"),  # no best weights were kept
        ({"best": {"step": 8, "accuracy": 0.5}}, "best"),
    ],
)
def test_the_default_is_the_checkpoint_that_the_summary_reports(run, reported, name):
    if reported is not None:
        summary(run, **reported)
    assert chosen(run, None) == run / "checkpoints" / name


def test_the_step_of_best_is_read_from_its_step_json(tmp_path):
    assert step_of(checkpoint(tmp_path, "best", step=120, validation_accuracy=0.25)) == 120
    assert step_of(checkpoint(tmp_path, "step_7")) == 7


@pytest.mark.parametrize(
    ("asked", "valid"),
    [(5, "best, latest, or a step of [4, 8, 12]"), ("newest", "best, latest, or a step of [4, 8, 12]")],
)
def test_a_missing_checkpoint_is_reported_with_the_valid_ones(run, asked, valid):
    with pytest.raises(InputError) as caught:
        chosen(run, asked)
    assert str(caught.value) == f"checkpoint={asked}: {run} holds no such checkpoint; valid: {valid}"


def test_best_is_not_listed_as_valid_if_it_was_not_kept(tmp_path):
    checkpoint(tmp_path, "step_3")
    with pytest.raises(InputError) as caught:
        chosen(tmp_path, "best")
    assert str(caught.value) == f"checkpoint=best: {tmp_path} holds no such checkpoint; valid: latest, or a step of [3]"


def test_a_reported_best_that_is_missing_is_an_error(tmp_path):
    checkpoint(tmp_path, "step_3")
    summary(tmp_path, best={"step": 2, "accuracy": 0.5})
    with pytest.raises(InputError, match=r"checkpoint=best: .* holds no such checkpoint"):
        chosen(tmp_path, None)


@pytest.mark.parametrize("asked", [None, "latest"])
def test_a_run_without_checkpoints_is_an_error(tmp_path, asked):
    with pytest.raises(InputError, match=f"^{tmp_path}: holds no complete checkpoint"):
        chosen(tmp_path, asked)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("weights", lambda file: file.write_text("other"), "weights does not match its checksum"),
        ("weights", Path.unlink, "weights is missing"),
        ("manifest.json", Path.unlink, "manifest.json is missing"),
        ("manifest.json", lambda file: file.write_text("{"), "manifest.json is not JSON"),
    ],
)
@pytest.mark.parametrize(("asked", "folder"), [("best", "best"), (4, "step_4"), ("latest", "step_12"), (12, "step_12")])
def test_a_damaged_checkpoint_is_reported_with_its_damage(run, asked, folder, name, damage, words):
    damaged = run / "checkpoints" / folder
    damage(damaged / name)
    assert broken(damaged) == [words]
    with pytest.raises(InputError) as caught:
        chosen(run, asked)
    assert str(caught.value).startswith(f"{damaged}: the checkpoint is damaged ({words}).")
    others = [other for other in ("best", 4, 8, 12) if other != asked and (asked, other) != ("latest", 12)]
    assert [broken(chosen(run, other)) for other in others] == [[]] * len(others)  # the others are intact


def test_all_damage_is_reported(run):
    folder = chosen(run, "best")
    (folder / "weights").unlink()
    (folder / "step.json").write_text("{}")
    assert set(broken(folder)) == {"weights is missing", "step.json does not match its checksum"}


def test_steps_are_sorted_as_numbers(tmp_path):
    for step in (9, 100, 10):
        checkpoint(tmp_path, f"step_{step}")
    checkpoint(tmp_path, "best", step=9)
    assert steps(tmp_path) == [9, 10, 100]
    assert latest(tmp_path) == chosen(tmp_path, "latest") == tmp_path / "checkpoints" / "step_100"


def test_damaged_best_weights_are_refused(run):
    intact_best(run)
    (run / "checkpoints" / "best" / "weights").write_text("other")
    with pytest.raises(InputError, match=r"the best weights are damaged \(weights does not match its checksum\)"):
        intact_best(run)


@pytest.mark.parametrize("content", ["", '{"best": {', "[]"])
def test_a_damaged_summary_is_named(run, content):
    (run / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary.json: damaged .* checkpoint=best, checkpoint=latest or a step"):
        chosen(run, None)
    assert chosen(run, "latest").name == "step_12"
