"""Which checkpoint of a run is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.types import InputError
from src.utils.checkpoints import broken, checksum, chosen, latest, step_of, steps


def checkpoint(run: Path, name: str, **about: float) -> Path:
    """A checkpoint of one file, sealed as a run would; ``about`` is what its step.json says."""
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
    """Steps 4, 8 and 12; the best weights are those of step 8."""
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
def test_what_is_asked_for_is_taken_whatever_the_summary_reports(run, asked, name, step, reported):
    if reported is not None:
        summary(run, **reported)
    folder = chosen(run, asked)
    assert folder == run / "checkpoints" / name
    assert step_of(folder) == step


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        (None, "step_12"),  # the run is not complete
        ({}, "step_12"),  # a summary from before best weights were kept
        ({"best": None}, "step_12"),
        ({"best": {}}, "step_12"),  # none were kept
        ({"best": {"step": 8, "accuracy": 0.5}}, "best"),
    ],
)
def test_the_default_is_what_the_summary_reports(run, reported, name):
    if reported is not None:
        summary(run, **reported)
    assert chosen(run, None) == run / "checkpoints" / name


def test_the_step_of_the_best_is_the_one_that_was_saved_with_it(tmp_path):
    assert step_of(checkpoint(tmp_path, "best", step=120, validation_accuracy=0.25)) == 120
    assert step_of(checkpoint(tmp_path, "step_7")) == 7


@pytest.mark.parametrize(
    ("asked", "valid"),
    [(5, "best, latest, or a step of [4, 8, 12]"), ("newest", "best, latest, or a step of [4, 8, 12]")],
)
def test_one_that_is_not_there_is_named_with_those_that_are(run, asked, valid):
    with pytest.raises(InputError) as caught:
        chosen(run, asked)
    assert str(caught.value) == f"checkpoint={asked}: {run} holds no such checkpoint; valid: {valid}"


def test_where_no_best_was_kept_it_is_not_among_the_valid_ones(tmp_path):
    checkpoint(tmp_path, "step_3")
    with pytest.raises(InputError) as caught:
        chosen(tmp_path, "best")
    assert str(caught.value) == f"checkpoint=best: {tmp_path} holds no such checkpoint; valid: latest, or a step of [3]"


def test_a_best_that_the_summary_reports_and_that_is_gone_is_not_replaced_by_another(tmp_path):
    checkpoint(tmp_path, "step_3")
    summary(tmp_path, best={"step": 2, "accuracy": 0.5})
    with pytest.raises(InputError, match=r"checkpoint=best: .* holds no such checkpoint"):
        chosen(tmp_path, None)


@pytest.mark.parametrize("asked", [None, "latest"])
def test_a_run_without_any_checkpoint_is_named(tmp_path, asked):
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
def test_a_damaged_one_is_named_with_its_damage(run, asked, folder, name, damage, words):
    damaged = run / "checkpoints" / folder
    damage(damaged / name)
    assert broken(damaged) == [words]
    with pytest.raises(InputError) as caught:
        chosen(run, asked)
    assert str(caught.value).startswith(f"{damaged}: the checkpoint is damaged ({words}).")
    others = [other for other in ("best", 4, 8, 12) if other != asked and (asked, other) != ("latest", 12)]
    assert [broken(chosen(run, other)) for other in others] == [[]] * len(others)  # theirs is not the others' damage


def test_all_damage_is_named(run):
    folder = chosen(run, "best")
    (folder / "weights").unlink()
    (folder / "step.json").write_text("{}")
    assert set(broken(folder)) == {"weights is missing", "step.json does not match its checksum"}


def test_steps_are_counted_as_numbers(tmp_path):
    for step in (9, 100, 10):
        checkpoint(tmp_path, f"step_{step}")
    checkpoint(tmp_path, "best", step=9)
    assert steps(tmp_path) == [9, 10, 100]
    assert latest(tmp_path) == chosen(tmp_path, "latest") == tmp_path / "checkpoints" / "step_100"
